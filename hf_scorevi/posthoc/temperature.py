"""Temperature scaling: one number that makes a classifier's probabilities sharper or flatter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from ..predictive import class_labels

__all__ = ["MAX_TEMPERATURE", "MIN_TEMPERATURE", "apply_temperature", "fit_temperature"]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
_CHUNK_ELEMENTS = 1 << 22  # bounds the temporaries, in float64, at a few times 32 MB

logger = logging.get_logger(__name__)


def apply_temperature(log_probs: Tensor, temperature: float) -> Tensor:
    """
    Return log softmax(`log_probs` / temperature), over the last dimension: flatter above 1, sharper below; the most
    probable class does not change.

    Args:
        log_probs: (..., K), log probabilities (or logits).
        temperature: positive.

    Raises:
        ValueError: a temperature that is not positive.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature must be a positive number, not {temperature!r}.")
    return log_probs if temperature == 1 else (log_probs / temperature).log_softmax(-1)


@torch.no_grad()
def fit_temperature(log_probs: Any, labels: Any) -> float:
    """
    Return the temperature that minimises the mean negative log-likelihood of `labels`: the root of a monotone
    function, by Newton's method inside a shrinking bracket. Where there is no minimum between 0.05 and 20 (no
    prediction is wrong, or none is better than chance), return the nearer end, with a warning.

    Fit it on data that neither trained the model nor will judge it.

    Args:
        log_probs: (N, K), log of the predictive's probabilities (or logits). Tensor or array.
        labels: (N,), whole class numbers. Tensor or array.

    Returns:
        T > 0, for `apply_temperature`.

    Raises:
        ValueError: wrong shapes, no example, NaN, labels that are no classes, a label of probability zero.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (arXiv 1706.04599), section 4.2; of the
    averaged predictive rather than of its members as Rahaman and Thiery (arXiv 2007.08792) recommend.
    """
    log_probs, labels = _checked(torch.as_tensor(log_probs), torch.as_tensor(labels))
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE  # of β = 1/T, in which the NLL is convex
    rises_throughout = _slope(log_probs, labels, low)[0] >= 0
    if rises_throughout or _slope(log_probs, labels, high)[0] <= 0:
        end = low if rises_throughout else high
        logger.warning(
            f"These {len(labels)} examples determine no temperature between {MIN_TEMPERATURE} and {MAX_TEMPERATURE}; "
            f"{1 / end:g} is taken. More of them, or harder ones, would."
        )
        return 1 / end
    beta = 1.0
    for _ in range(100):
        slope, curvature = _slope(log_probs, labels, beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = beta - slope / curvature if curvature > 0 else low
        following = step if low < step < high else (low * high) ** 0.5
        if abs(following - beta) <= 1e-10 * beta:
            break
        beta = following
    return 1 / beta


def _slope(log_probs: Tensor, labels: Tensor, beta: float) -> tuple[float, float]:
    """Return the first and second derivative by β of the mean of −log softmax(β log p)[label]."""
    slope = curvature = 0.0
    for values, index in _chunks(log_probs, labels):
        probs = (beta * values).softmax(-1)
        of_labels = values.gather(1, index).squeeze(1)
        values = values.masked_fill(probs == 0, 0.0)  # 0 · −inf
        mean = (probs * values).sum(-1)
        slope += (mean - of_labels).sum().item()
        curvature += (probs * (values - mean.unsqueeze(1)).square()).sum().item()
    return slope / len(labels), curvature / len(labels)


def _chunks(log_probs: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows in float64, their largest value at zero, and their labels as indices."""
    rows = max(1, _CHUNK_ELEMENTS // log_probs.shape[1])
    for values, own in zip(log_probs.split(rows), labels.split(rows), strict=True):
        values = values.double()
        yield values - values.amax(-1, keepdim=True), own.unsqueeze(1)


def _checked(log_probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if log_probs.dim() != 2 or labels.shape != log_probs.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"log_probs and labels must have the shapes (N, K) and (N,), at least one example, not "
            f"{tuple(log_probs.shape)} and {tuple(labels.shape)}."
        )
    labels = class_labels(labels, log_probs)
    if torch.isnan(log_probs).any() or (log_probs.amax(-1).isinf()).any():
        raise ValueError("log_probs holds NaN or infinity: the model's outputs overflowed.")
    impossible = log_probs.gather(1, labels.unsqueeze(1)).isneginf().squeeze(1)
    if impossible.any():
        raise ValueError(
            f"Example {int(impossible.int().argmax())} has a label of probability zero, which no temperature mends. "
            "Give logits or log_softmax in float32, not the log of rounded probabilities."
        )
    return log_probs, labels
