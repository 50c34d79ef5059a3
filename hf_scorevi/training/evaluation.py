"""Metrics of the posterior predictive and of the mean, from what the evaluation loop gathers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from transformers import EvalPrediction

from ..metrics import classification_metrics

__all__ = ["CalibrationMetrics", "is_classification"]


def is_classification(outputs: Any, labels: Any) -> bool:
    """Whether `outputs` have the shape of logits (batch, classes) and `labels` that of class numbers (batch,)."""
    if outputs.ndim != 2 or outputs.shape[1] < 2:
        return False
    return labels is None or (labels.ndim == 1 and "int" in str(labels.dtype))


class CalibrationMetrics:
    """
    The trainer's `compute_metrics`: accuracy, NLL, ECE, Brier of the predictive, the same with `mean_` of the mean,
    and the user's own `compute_metrics` on the predictive's outputs.

    The loop hands it the pair (predictive, mean), and as a third what the user's `preprocess_logits_for_metrics` made.
    """

    def __init__(self, user: Callable[[EvalPrediction], dict[str, Any]] | None) -> None:
        self.user = user

    def __call__(self, evaluation: EvalPrediction) -> dict[str, Any]:
        outputs: Any = evaluation.predictions
        predictive, mean = outputs[0], outputs[1]
        labels = evaluation.label_ids
        metrics: dict[str, Any] = {}
        if is_classification(predictive, labels):
            metrics.update(classification_metrics(_probabilities(predictive), labels))
            mean_metrics = classification_metrics(_probabilities(mean), labels)
            metrics.update({f"mean_{name}": value for name, value in mean_metrics.items() if name != "ece_bins"})
        elif isinstance(labels, np.ndarray) and predictive.size == labels.size:
            metrics["mse"] = float(np.mean((predictive.reshape(labels.shape) - labels) ** 2))
            metrics["mean_mse"] = float(np.mean((mean.reshape(labels.shape) - labels) ** 2))
        if self.user is not None:
            evaluation.predictions = predictive if len(outputs) == 2 else outputs[2]
            metrics.update(self.user(evaluation))
        return metrics


def _probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
