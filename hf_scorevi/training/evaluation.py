"""Metrics of the posterior predictive and of the mean, from what the evaluation loop gathers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from transformers import EvalPrediction

from ..metrics import classification_metrics, reliability_bins, summary_from_scores

__all__ = ["CalibrationMetrics", "draw_counts", "is_classification"]

_BINS = 15


def draw_counts(num_samples: int) -> list[int]:
    """The numbers of draws after which a classifier is judged: powers of two below `num_samples`, and it."""
    return [2**i for i in range((num_samples - 1).bit_length())] + [num_samples]


def is_classification(outputs: Any, labels: Any) -> bool:
    """Whether `outputs` have the shape of logits (batch, classes) and `labels` that of class numbers (batch,)."""
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        return False
    return labels is None or (labels.ndim == 1 and "int" in str(labels.dtype))


class CalibrationMetrics:
    """
    The trainer's `compute_metrics`: accuracy, NLL, ECE, Brier of the predictive, or the scores of a regression or
    forecaster; the same with `mean_` of the mean; and the user's own `compute_metrics` on the predictive's outputs.

    The loop hands it the outputs of `PosteriorTrainer.prediction_step`, and behind them what the user's
    `preprocess_logits_for_metrics` made.

    Attributes:
        independent: the outputs are logits of independent yes-or-no labels, each of which counts as an example of two
            classes.
        scores: the names of what each example of a regression or forecaster was scored by.
        found: of the last call what an `Evaluation` records, if it had figures.
    """

    def __init__(self, user: Callable[[EvalPrediction], dict[str, Any]] | None) -> None:
        self.user = user
        self.independent = False
        self.scores: tuple[str, ...] = ()
        self.found: dict[str, Any] | None = None

    def __call__(self, evaluation: EvalPrediction) -> dict[str, Any]:
        outputs: Any = evaluation.predictions
        predictive, mean = outputs[0], outputs[1]
        labels: Any = evaluation.label_ids
        metrics: dict[str, Any] = {}
        self.found = None
        if self.scores:
            if outputs[2].shape[2] == len(self.scores):
                self.found = _scored(outputs[2], self.scores)
        elif is_classification(predictive, labels):
            self.found = _classification(_probabilities(predictive), _probabilities(mean), outputs[2], labels)
        elif self.independent and isinstance(labels, np.ndarray) and labels.shape == predictive.shape:
            given = labels.reshape(-1) >= 0  # -100 marks a label that nobody gave
            self.found = _classification(
                _two_classes(predictive)[given],
                _two_classes(mean)[given],
                np.zeros((len(labels), 0, 4)),
                labels.reshape(-1)[given].astype(np.int64),
            )
            self.found["num_examples"] = len(labels)
        elif isinstance(labels, np.ndarray) and predictive.size == labels.size:
            errors = {"predictive": predictive, "mean": mean}
            figures = {k: {"mse": float(np.mean((v.reshape(labels.shape) - labels) ** 2))} for k, v in errors.items()}
            self.found = {"num_examples": len(labels), "metrics": figures}
        if self.found is not None:
            metrics |= {"ece_bins": _BINS} if "reliability" in self.found else {}
            metrics |= self.found["metrics"]["predictive"]
            metrics |= {f"mean_{name}": value for name, value in self.found["metrics"]["mean"].items()}
        if self.user is not None:
            evaluation.predictions = predictive if len(outputs) == 4 else outputs[4]
            metrics.update(self.user(evaluation))
        return metrics


def _classification(
    predictive: np.ndarray, mean: np.ndarray, by_draws: np.ndarray, labels: np.ndarray
) -> dict[str, Any]:
    tables = {"predictive": predictive, "mean": mean}
    metrics = {name: classification_metrics(table, labels, _BINS) for name, table in tables.items()}
    after = [summary_from_scores(by_draws[:, i], _BINS) for i in range(by_draws.shape[1])]
    return {
        "num_examples": len(labels),
        "num_bins": _BINS,
        "metrics": {name: _without_bins(own) for name, own in metrics.items()},
        "by_num_samples": [_without_bins(own) for own in after],
        "reliability": {name: reliability_bins(table, labels, _BINS) for name, table in tables.items()},
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
