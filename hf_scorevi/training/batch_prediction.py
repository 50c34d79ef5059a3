"""What an evaluation makes of one batch, draw by draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..predictive import (
    ClassCollector,
    LabelsAverage,
    OutputAverage,
    PredictiveAverage,
    PredictiveOutput,
    RegressionCollector,
    RegressionOutput,
    per_example_scores,
)
from .evaluation import draw_counts, is_classification

__all__ = ["BatchPrediction", "Collector"]

Collector = ClassCollector | RegressionCollector


class BatchPrediction:
    """
    The outputs of one batch, averaged over draws as their kind asks.

    Args:
        mean: outputs of the mean's weights.
        labels: of the batch, if it has some.
        num_samples: draws that will be added.
        problem: the model's `problem_type`.
        temperature: of a classifier's predictive.
        make_collector: for what else is to be told of each example.
    """

    def __init__(
        self,
        mean: Tensor,
        labels: Any,
        num_samples: int,
        problem: str | None,
        temperature: float,
        make_collector: Callable[[], Collector] | None,
    ) -> None:
        self._mean, self._labels = mean, labels
        self._counts = draw_counts(num_samples)
        exclusive_classes = problem not in ("regression", "multi_label_classification")
        self._average: PredictiveAverage | LabelsAverage | OutputAverage
        if exclusive_classes and is_classification(mean, labels):
            self._average = PredictiveAverage(temperature)
        else:
            self._average = LabelsAverage() if problem == "multi_label_classification" else OutputAverage()
        self._collector = None if make_collector is None or mean.dim() < 2 else make_collector()
        self._losses: list[Tensor] = []
        self._scores: list[Tensor] = []

    def add(self, outputs: Tensor, loss: Tensor | None) -> None:
        """Take in one draw."""
        self._average.add(outputs)
        if self._collector is not None:
            self._collector.add(outputs)
        if self.is_judged and self._average.num_samples in self._counts:
            self._scores.append(per_example_scores(self._average.outputs, self._labels))
        if loss is not None:
            self._losses.append(loss)

    @property
    def is_judged(self) -> bool:
        """Whether the outputs are a classifier's, and there are labels."""
        return self._labels is not None and isinstance(self._average, PredictiveAverage)

    def result(self) -> tuple[Tensor | None, tuple[Any, ...], Any, PredictiveOutput | RegressionOutput | None]:
        """
        Loss; (predictive, mean, scores by draws and of the mean, details); labels; the prediction that the details are
        of.
        """
        outputs = self._average.outputs
        loss: Tensor | None
        scores = self._scores
        if self.is_judged:
            loss = nn.functional.nll_loss(outputs, self._labels)
            scores = [*scores, per_example_scores(self._mean.float().log_softmax(1), self._labels)]
        else:
            loss = torch.stack(self._losses).mean() if self._losses else None
        mean = self._mean
        by_draws = torch.stack(scores, dim=1) if scores else mean.new_zeros(len(mean), 0, 4)
        prediction = None if self._collector is None else self._collector.result()
        details = () if prediction is None else tuple(prediction.examples_first().values())
        return loss, (outputs, mean, by_draws, details), self._labels, prediction
