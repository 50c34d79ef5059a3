"""Figures of an evaluation, for the predictive and for the mean, from scores of each example."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from ..heads import Head
from ..metrics import ReliabilityBins, bin_confidences, summary_from_scores
from ..metrics.chunks import row_chunks
from ..metrics.class_bins import class_bins
from ..metrics.functions.adaptive_ece import error_of_confidences
from ..metrics.reliability import bin_edges
from ..predictive import NUM_BINS

__all__ = ["EvaluationFigures"]


class EvaluationFigures:
    """
    Accuracy, NLL, ECE and Brier score of classes, labels, tokens, pixels and spans, or the scores of numbers and
    forecasts: of the predictive, after several numbers of draws where it has classes, and of the mean.

    Only a few numbers for each example are kept, and sums by class.
    """

    def __init__(self) -> None:
        self._head: Head | None = None
        self._names: tuple[str, ...] = ()
        self._scores: list[np.ndarray] = []
        self._class_gaps: dict[str, np.ndarray] = {}

    def begin(self, head: Head, names: tuple[str, ...]) -> None:
        """Set the head that the scores come from, and their names."""
        self._head, self._names = head, names

    def add(self, scores: Tensor) -> None:
        """Take in a batch, (B, rows, scores): one row for each number of draws, and a last one for the mean."""
        self._scores.append(scores.cpu().numpy())

    def add_tables(self, tables: tuple[Tensor, Tensor, Tensor]) -> None:
        """Take in a classifier's log probabilities, of predictive and mean, (B, K), and its labels (B,)."""
        *log_probs, labels = tables
        for row, table in zip(("predictive", "mean"), log_probs, strict=True):
            self._add_class_gaps(row, table, labels)

    def _add_class_gaps(self, row: str, logits: Tensor, labels: Tensor) -> None:
        """
        Add up p_k less the number of labels k, by class and bin of p_k, from which the class-wise error is computed.
        """
        targets = labels.cpu().numpy().astype(np.int64)
        for rows in row_chunks(*logits.shape):
            found = class_bins(_probabilities(logits[rows].float().cpu().numpy()), targets[rows], NUM_BINS)
            gaps = found.probabilities - found.hits
            self._class_gaps[row] = self._class_gaps.get(row, 0.0) + gaps

    def found(self) -> dict[str, Any] | None:
        """
        Return the figures for an `Evaluation`, `None` if there were no scores; `by_num_samples` has one entry for each
        number of draws.

        Raises:
            ValueError: the model's outputs are not finite.
        """
        if not self._scores:
            return None
        assert self._head is not None
        scores = np.concatenate(self._scores)
        if self._head.likelihood not in ("categorical", "bernoulli"):
            return _averaged(scores, self._names)
        lost = np.isnan(scores).any((1, 2))
        if lost.any():
            raise ValueError(
                f"The model's outputs for example {int(lost.argmax())} are not finite: nor are its inputs, or "
                "something has overflowed."
            )
        return self._of_classes(scores) if self._head.task == "classes" else self._of_terms(scores)

    def _of_classes(self, scores: np.ndarray) -> dict[str, Any]:
        """
        Return the figures from scores of shape (examples, numbers of draws and the mean, 4), and the sums by class.
        """
        *after, mean = (_without_bins(summary_from_scores(own, NUM_BINS)) for own in scores.swapaxes(0, 1))
        metrics, reliability = {}, {}
        for row, figures, own in (("predictive", after[-1], scores[:, -2]), ("mean", mean, scores[:, -1])):
            confidences, correct = own[:, 1].astype(np.float64), own[:, 2] == 1
            gaps = self._class_gaps[row]
            metrics[row] = {
                "accuracy": figures["accuracy"],
                "nll": figures["nll"],
                "ece": figures["ece"],
                "classwise_ece": float(np.abs(gaps).sum() / (len(own) * len(gaps))),
                "adaptive_ece": error_of_confidences(confidences, correct, NUM_BINS),
                "brier": figures["brier"],
            }
            reliability[row] = bin_confidences(confidences, correct, NUM_BINS)
        return {
            "num_examples": len(scores),
            "num_bins": NUM_BINS,
            "metrics": metrics,
            "by_num_samples": after,
            "reliability": reliability,
        }

    def _of_terms(self, scores: np.ndarray) -> dict[str, Any] | None:
        """
        Return the figures over all terms of all examples, from sums of shape (examples, numbers of draws and the mean,
        50).
        """
        sums = scores.sum(0, dtype=np.float64)
        if not sums[0, 0]:
            return None  # all labels are ignored
        found = [self._of_sums(row) for row in sums]
        (predictive, bins), (mean, mean_bins) = found[-2:]
        return {
            "num_examples": len(scores),
            "num_terms": int(sums[0, 0]),
            "num_bins": NUM_BINS,
            "metrics": {"predictive": predictive, "mean": mean},
            "by_num_samples": [figures for figures, _ in found[:-1]],
            "reliability": {"predictive": bins, "mean": mean_bins},
        }

    def _of_sums(self, sums: np.ndarray) -> tuple[dict[str, float], ReliabilityBins]:
        terms, log_likelihood, _, correct, brier = sums[:5]
        counts, confidences, hits = sums[5:].reshape(3, NUM_BINS)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            bins = ReliabilityBins(bin_edges(NUM_BINS), counts.astype(np.int64), confidences / counts, hits / counts)
            nll = float(0.0 - log_likelihood / terms)
            perplexity = {"perplexity": float(np.exp(nll))} if self._head and self._head.task == "tokens" else {}
        figures = {"accuracy": float(correct / terms), "nll": nll, **perplexity, "ece": bins.ece}
        return figures | {"brier": float(brier / terms)}, bins


def _averaged(scores: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """
    Return means over examples, (N, 2, scores) of predictive and mean; figures that were not computed, NaN, are left
    out.
    """
    known = ~np.isnan(scores).all((0, 1))
    means = scores.mean(0, dtype=np.float64)
    tables = dict(zip(("predictive", "mean"), means, strict=True))
    figures = {
        row: {name: float(value) for name, value, there in zip(names, values, known, strict=True) if there}
        for row, values in tables.items()
    }
    return {"num_examples": len(scores), "metrics": figures}


def _without_bins(figures: dict[str, float | int]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name != "ece_bins"}


def _probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
