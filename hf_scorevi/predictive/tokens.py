"""The predictives of heads with several terms an example: pixels and spans."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..heads import IGNORED, Head
from .classes import TERM_SUMS, ClassPredictive
from .outputs import SpanOutput

__all__ = ["PixelPredictive", "SpanPredictive"]


class PixelPredictive(ClassPredictive):
    """
    The predictive of each pixel's class. The likelihood is that of logits interpolated to the labels' size, so these
    are averaged too where there are labels.

    Args:
        head: of the model.
        labels: (B, H, W); `None` without.
        how: arguments of `ClassPredictive`.
    """

    def __init__(self, head: Head, labels: Tensor | None, temperature: float = 1.0, **how: Any) -> None:
        super().__init__(temperature, class_axis=head.class_axis, by_term=True, **how)
        self._head, self._labels = head, labels
        self._judged = ClassPredictive(temperature, by_term=True, spread=False)

    def add(self, logits: Tensor) -> None:
        """Take in the logits of one draw, (B, K, h, w)."""
        super().add(logits)
        if self._labels is not None:
            self._judged.add(self._head.term_logits(logits, self._labels))

    def scores(self, labels: Tensor) -> Tensor:
        """Return the scores of each example, (B, `score_names`)."""
        return self._judged.scores(labels)


class SpanPredictive:
    """
    The predictive of a start and an end in a text, each one of its positions.

    Args:
        how: arguments of `ClassPredictive`, for both.
    """

    score_names = TERM_SUMS

    def __init__(self, temperature: float = 1.0, **how: Any) -> None:
        self._ends = [ClassPredictive(temperature, by_term=True, **how) for _ in range(2)]

    def add(self, start: Tensor, end: Tensor) -> None:
        """Take in the logits of one draw, (B, T) for the start and for the end."""
        self._length = start.shape[1]
        for predictive, logits in zip(self._ends, (start, end), strict=True):
            predictive.add(logits)

    @property
    def point(self) -> tuple[Tensor, ...]:
        """The prediction in a `Trainer`'s form: log probabilities of start and end, (B, T) each."""
        return tuple(predictive.point for predictive in self._ends)

    def scores(self, labels: tuple[Tensor, ...]) -> Tensor:
        """Return the scores of each example, (B, `score_names`), start and end being its terms."""
        start, end = (label.masked_fill(label >= self._length, IGNORED) for label in labels)
        return self._ends[0].scores(start) + self._ends[1].scores(end)

    def output(self) -> SpanOutput:
        """Return the prediction, after all draws."""
        return SpanOutput(*(predictive.output() for predictive in self._ends))
