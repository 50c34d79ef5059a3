"""What an evaluation makes of one batch of a regression or forecaster, draw by draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..predictive import GaussianNoise, PredictiveOutput, RegressionOutput, gaussian_mixture_scores
from .batch_prediction import Collector

__all__ = ["DensityPrediction", "GaussianPrediction"]


class GaussianPrediction:
    """
    The outputs of one batch under a Gaussian likelihood.

    Args:
        mean: outputs of the mean's weights, (B, ...), of a forecaster with the scale of the windows, or `None`.
        target: of the batch, as many numbers, if it has some.
        noise: of the predictive, if it is known.
        make_collector: for what else is to be told of each example.
    """

    def __init__(
        self,
        mean: Tensor | tuple[Tensor, Tensor | None],
        target: Tensor | None,
        noise: GaussianNoise | None,
        make_collector: Callable[[], Collector] | None,
    ) -> None:
        self._mean, scale = mean if isinstance(mean, tuple) else (mean, None)
        self._target = target
        self._variance = None if noise is None else noise.of(self._mean.float(), scale)
        self._collector = None if make_collector is None else make_collector()
        self._draws: list[Tensor] = []
        self._losses: list[Tensor] = []

    def add(self, outputs: Tensor | tuple[Tensor, Tensor | None], loss: Tensor | None) -> None:
        """Take in one draw."""
        parts = outputs if isinstance(outputs, tuple) else (outputs,)
        self._draws.append(parts[0].float())
        if self._collector is not None:
            self._collector.add(*parts)
        if loss is not None:
            self._losses.append(loss)

    def result(self) -> tuple[Tensor | None, tuple[Any, ...], Any, PredictiveOutput | RegressionOutput | None]:
        """
        The loss, averaged over draws; (predictive mean, mean, (B, 2, 8) `GAUSSIAN_SCORES` of both, details); target;
        the prediction that the details are of.
        """
        draws, mean = torch.stack(self._draws), self._mean
        scores = mean.new_zeros(len(mean), 2, 0)
        if self._target is not None:
            target = self._target.reshape(mean.shape)
            both = draws, mean.float().unsqueeze(0)
            scores = torch.stack([gaussian_mixture_scores(m, self._variance, target) for m in both], dim=1)
        prediction = None if self._collector is None else self._collector.result()
        details = () if prediction is None else tuple(prediction.examples_first().values())
        loss = torch.stack(self._losses).mean() if self._losses else None
        return loss, (draws.mean(0), mean, scores, details), self._target, prediction


class DensityPrediction:
    """
    The log densities of one batch under a forecaster whose head models a distribution.

    Args:
        mean: of the mean's weights: expectations, (B, ...), and log densities of the likelihood's terms, (B, n).
        target: of the batch.
    """

    def __init__(self, mean: tuple[Tensor, Tensor], target: Tensor) -> None:
        self._mean, self._target = mean, target
        self._expectations: list[Tensor] = []
        self._log_densities: list[Tensor] = []
        self._losses: list[Tensor] = []

    def add(self, outputs: tuple[Tensor, Tensor], loss: Tensor | None) -> None:
        """Take in one draw."""
        self._expectations.append(outputs[0])
        self._log_densities.append(outputs[1])
        if loss is not None:
            self._losses.append(loss)

    def result(self) -> tuple[Tensor | None, tuple[Any, ...], Any, None]:
        """As `GaussianPrediction`'s. The score is the NLL alone, of the mixture of draws, term by term: (B, 2, 1)."""
        draws = torch.stack(self._log_densities)
        both = draws.logsumexp(0) - math.log(len(draws)), self._mean[1]
        scores = torch.stack([-values.flatten(1).mean(1, keepdim=True) for values in both], dim=1)
        loss = torch.stack(self._losses).mean() if self._losses else None
        expectation = torch.stack(self._expectations).mean(0)
        return loss, (expectation, self._mean[0], scores, ()), self._target, None
