"""The predictive of a forecaster whose head models a distribution: by its densities, or by its sample paths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.time_series_utils import NegativeBinomialOutput

from .outputs import ForecastOutput
from .quantiles import sample_quantiles

__all__ = ["DensityPredictive", "PathPredictive", "expectation_and_log_density"]


class DensityPredictive:
    """The expectation and density of what was observed, under a mixture of one distribution a draw."""

    score_names = ("nll",)

    def __init__(self) -> None:
        self._expectations: list[Tensor] = []
        self._log_densities: list[Tensor] = []

    def add(self, expectation: Tensor, log_density: Tensor) -> None:
        """
        Take in one draw's expectation, (B, ...), and log densities, (B, terms), from `expectation_and_log_density`.
        """
        self._expectations.append(expectation)
        self._log_densities.append(log_density)

    @property
    def point(self) -> Tensor:
        """The prediction in a `Trainer`'s form: the expectation, averaged over draws."""
        return torch.stack(self._expectations).mean(0)

    def scores(self, target: Tensor) -> Tensor:
        """Return the mean of −log density over the terms of each example, (B, 1); the target is in the densities."""
        draws = torch.stack(self._log_densities)
        mixture = draws.logsumexp(0) - math.log(len(draws)) if len(draws) > 1 else draws[0]
        return -mixture.flatten(1).mean(1, keepdim=True)


class PathPredictive:
    """
    The predictive of a forecaster whose draws are sample paths.

    Args:
        quantile_levels: in (0, 1), of the paths of all draws together.
        samples, paths: whether `output` has the means of each draw's paths, and the paths.
    """

    def __init__(self, quantile_levels: Sequence[float], *, samples: bool = False, paths: bool = False) -> None:
        self._levels = tuple(quantile_levels)
        self._keeps_samples, self._keeps_paths = samples, paths
        self._paths: list[Tensor] = []

    def add(self, paths: Tensor) -> None:
        """
        Take in the paths of one draw, (K, B, H, C).

        Raises:
            ValueError: a single path, which cannot separate the noise from the uncertainty of the weights.
        """
        if len(paths) < 2:
            raise ValueError(
                "One path a draw does not tell the noise from the uncertainty of the weights: ask for paths_per_draw "
                "of two or more (num_parallel_samples of the model's configuration)."
            )
        self._paths.append(paths.float())

    def output(self) -> ForecastOutput:
        """
        Return the prediction, after all draws. With K paths a draw, the variance between their means exceeds the
        weights' by 1/K of the variance within a draw; this excess is subtracted.
        """
        paths = torch.stack(self._paths)
        samples, per_draw = paths.mean(1), paths.shape[1]
        within = paths.var(1).mean(0)
        between = samples.var(0) if len(samples) > 1 else torch.zeros_like(samples[0])
        paths = paths.flatten(0, 1)
        return ForecastOutput(
            mean=samples.mean(0),
            epistemic_variance=(between - within / per_draw).clamp_min(0),
            aleatoric_variance=within,
            quantiles=sample_quantiles(paths, self._levels),
            quantile_levels=self._levels,
            num_samples=len(samples),
            samples=samples if self._keeps_samples else None,
            paths=paths if self._keeps_paths else None,
        )


def expectation_and_log_density(model: nn.Module, outputs: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """
    Return the expectation and log density of the distribution that a transformers forecaster has just computed its
    loss with.

    The autoregressive ones (TimeSeriesTransformer, Informer, Autoformer) predict each step from the true steps before
    it: their densities and expectations are those of one step ahead.

    Args:
        outputs: of its forward.
        inputs: of the same, with `future_values`.

    Returns:
        The expectation, (B, H, C) or (B, H), and the log density of each term of the likelihood, (B, n): of all
        channels of a step together, or of a single number. Unobserved ones have the mean of the others.
    """
    parameters = getattr(outputs, "params", None)
    head: Any = model.distribution_output
    # The forward has already put the scale of a negative binomial into its parameters.
    counts = isinstance(head, NegativeBinomialOutput)
    affine = {} if counts else {"loc": outputs.loc, "scale": outputs.scale}
    distribution = head.distribution(outputs.prediction_outputs if parameters is None else parameters, **affine)
    target = inputs["future_values"]
    chosen = getattr(model, "prediction_channel_indices", None)
    log_density = distribution.log_prob(target if chosen is None else target[..., chosen]).flatten(1)
    mask = inputs.get("future_observed_mask")
    if mask is not None:
        mask = (mask if mask.dim() == 2 else mask.amin(-1)).bool()
        log_density = log_density.masked_fill(~mask, 0)
        mean = log_density.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)
        log_density = log_density.where(mask, mean)
    return distribution.mean, log_density
