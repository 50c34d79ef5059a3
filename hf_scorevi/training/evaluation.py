"""Metrics of the posterior predictive and of the mean, from what the evaluation loop gathers."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from torch import Tensor
from transformers import EvalPrediction
from transformers.trainer_pt_utils import nested_concat

from ..metrics import bin_confidences, classification_metrics, reliability_bins, summary_from_scores
from ..metrics.chunks import row_chunks
from ..metrics.class_bins import class_bins
from ..metrics.functions.adaptive_ece import error_of_confidences

__all__ = ["CalibrationMetrics", "Outputs", "draw_counts", "is_classification", "together", "users_part"]

_BINS = 15


class Outputs(tuple[Any, ...]):
    """
    What an evaluation makes of a batch: outputs of the predictive and of the mean, what each example contributes to
    the figures, and what `predict` has to tell besides; then, until it is gathered, a classifier's labels (else an
    empty table); last, if there is one, what the user's `preprocess_logits_for_metrics` has made.
    """


def draw_counts(num_samples: int) -> list[int]:
    """The numbers of draws after which a classifier is judged: powers of two below `num_samples`, and it."""
    return [2**i for i in range((num_samples - 1).bit_length())] + [num_samples]


def is_classification(outputs: Any, labels: Any) -> bool:
    """Whether `outputs` have the shape of logits (batch, classes) and `labels` that of class numbers (batch,)."""
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        return False
    return labels is None or (labels.ndim == 1 and "int" in str(labels.dtype))


def together(batches: list[Any]) -> Any:
    """Arrays of all batches, or tuples of such, as the evaluation loop puts them together."""
    if isinstance(batches[0], tuple):
        return tuple(together(list(parts)) for parts in zip(*batches, strict=True))
    if len({batch.shape[1:] for batch in batches}) == 1:
        return np.concatenate(batches)
    return reduce(nested_concat, batches)


class CalibrationMetrics:
    """
    The trainer's `compute_metrics`: accuracy, NLL, ECE, Brier of the predictive, or the scores of a regression or
    forecaster; the same with `mean_` of the mean; and the user's own `compute_metrics` on the predictive's outputs.

    A classifier's tables of probabilities, (examples, classes), are taken in batch by batch (`take`): of the mean's
    nothing is kept but what the figures need, a few numbers an example and sums by class, and of the predictive's too
    where the user's `preprocess_logits_for_metrics` has said what else is wanted.

    Attributes:
        independent: the outputs are logits of independent yes-or-no labels, each of which counts as an example of two
            classes.
        scores: the names of what each example of a regression or forecaster was scored by.
        found: of the last call what an `Evaluation` records, if it had figures.
        names: of the figures that the last call has added to the user's own.
    """

    def __init__(self, user: Callable[[EvalPrediction], dict[str, Any]] | None) -> None:
        self.user = user
        self.begin()

    def begin(self, scores: tuple[str, ...] = (), independent: bool = False) -> None:
        """Forget the last evaluation."""
        self.scores, self.independent = scores, independent
        self.found: dict[str, Any] | None = None
        self.names: set[str] = set()
        self._class_gaps: dict[str, np.ndarray] = {}

    def take(self, gathered: Any) -> Any:
        """What is to be kept of a batch, gathered from all processes."""
        if not isinstance(gathered, Outputs):
            return gathered
        predictive, mean, scores, details, labels, *users = gathered
        if labels.dim() == 1:
            self._add_class_gaps("predictive", predictive, labels)
            self._add_class_gaps("mean", mean, labels)
            mean = mean[:, :0]
            predictive = predictive[:, :0] if users else predictive
        return Outputs((predictive, mean, scores, details, *users))

    def _add_class_gaps(self, row: str, logits: Tensor, labels: Tensor) -> None:
        """Sum of p_k less the number of labels k, by class and bin of p_k: all that a class-wise error needs."""
        targets = labels.cpu().numpy().astype(np.int64)
        for rows in row_chunks(*logits.shape):
            found = class_bins(_probabilities(logits[rows].float().cpu().numpy()), targets[rows], _BINS)
            gaps = found.probabilities - found.hits
            self._class_gaps[row] = self._class_gaps.get(row, 0.0) + gaps

    def __call__(self, evaluation: EvalPrediction) -> dict[str, Any]:
        batches: Any = evaluation.predictions
        is_list = isinstance(batches, list)  # eval_do_concat_batches=False
        outputs: Any = together([batch[:4] for batch in batches]) if is_list else batches[:4]
        labels: Any = evaluation.label_ids
        predictive, mean, scores, _ = outputs
        self.found = self._figures(predictive, mean, scores, together(labels) if isinstance(labels, list) else labels)
        metrics: dict[str, Any] = {}
        if self.found is not None:
            metrics |= self.found["metrics"]["predictive"]
            metrics |= {f"mean_{name}": value for name, value in self.found["metrics"]["mean"].items()}
        self.names = set(metrics)
        if self.user is not None:
            users: Any = [users_part(batch) for batch in batches] if is_list else users_part(batches)
            own = self.user(EvalPrediction(users, labels, evaluation.inputs, evaluation.losses))
            self.names -= own.keys()
            metrics.update(own)
        return metrics

    def _figures(self, predictive: Any, mean: Any, scores: Any, labels: Any) -> dict[str, Any] | None:
        if self.scores:
            return _scored(scores, self.scores) if scores.shape[2] == len(self.scores) else None
        if self._class_gaps:
            return self._classification(scores)
        if not isinstance(labels, np.ndarray):
            return None
        if self.independent and labels.shape == predictive.shape:
            given = labels.reshape(-1) >= 0  # -100 marks a label that nobody gave
            tables = {"predictive": _two_classes(predictive)[given], "mean": _two_classes(mean)[given]}
            return _independent(tables, labels.reshape(-1)[given].astype(np.int64)) | {"num_examples": len(labels)}
        if predictive.size == labels.size:
            errors = {"predictive": predictive, "mean": mean}
            figures = {k: {"mse": float(np.mean((v.reshape(labels.shape) - labels) ** 2))} for k, v in errors.items()}
            return {"num_examples": len(labels), "metrics": figures}
        return None

    def _classification(self, scores: np.ndarray) -> dict[str, Any]:
        """From (examples, numbers of draws and the mean, 4) scores and the sums by class."""
        overflowed = np.isnan(scores).any((1, 2))
        if overflowed.any():
            raise ValueError(
                f"The model's outputs for example {int(overflowed.argmax())} are not finite: nor are its inputs, or "
                "something has overflowed."
            )
        *after, mean = (_without_bins(summary_from_scores(own, _BINS)) for own in scores.swapaxes(0, 1))
        metrics, reliability = {}, {}
        for row, figures, own in (("predictive", after[-1], scores[:, -2]), ("mean", mean, scores[:, -1])):
            confidences, correct = own[:, 1].astype(np.float64), own[:, 2] == 1
            gaps = self._class_gaps[row]
            metrics[row] = {
                "accuracy": figures["accuracy"],
                "nll": figures["nll"],
                "ece": figures["ece"],
                "classwise_ece": float(np.abs(gaps).sum() / (len(own) * len(gaps))),
                "adaptive_ece": error_of_confidences(confidences, correct, _BINS),
                "brier": figures["brier"],
            }
            reliability[row] = bin_confidences(confidences, correct, _BINS)
        return {
            "num_examples": len(scores),
            "num_bins": _BINS,
            "metrics": metrics,
            "by_num_samples": after,
            "reliability": reliability,
        }


def users_part(outputs: tuple[Any, ...]) -> Any:
    """Of `Outputs` that were gathered what the user gets to see."""
    return outputs[0] if len(outputs) == 4 else outputs[4]


def _independent(tables: dict[str, np.ndarray], labels: np.ndarray) -> dict[str, Any]:
    metrics = {row: classification_metrics(table, labels, _BINS) for row, table in tables.items()}
    return {
        "num_bins": _BINS,
        "metrics": {row: _without_bins(own) for row, own in metrics.items()},
        "reliability": {row: reliability_bins(table, labels, _BINS) for row, table in tables.items()},
    }


def _scored(scores: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    """Means over examples, (N, 2, scores) of predictive and mean; what was not computed is NaN, and left out."""
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


def _two_classes(logits: np.ndarray) -> np.ndarray:
    flat = logits.reshape(-1, 1)
    return _probabilities(np.concatenate([np.zeros_like(flat), flat], axis=1))


def _probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
