"""What each example of a batch contributes to a classifier's figures."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["class_labels", "per_example_scores"]


@torch.no_grad()
def per_example_scores(log_probs: Tensor, labels: Tensor) -> Tensor:
    """
    What each example of a batch contributes to a classifier's figures, (B, 4), float32 on `log_probs`' device:

    log probability of the label in nats, confidence (the largest probability), 1 where its class (the first of equal
    ones) is the label and 0 elsewhere, Brier score (sum over classes, 0 to 2).

    Args:
        log_probs: (B, K), log of probabilities; their softmax is not taken.
        labels: (B,), whole class numbers.

    Raises:
        ValueError: wrong shapes, labels that are no classes.
    """
    if log_probs.dim() != 2 or labels.shape != log_probs.shape[:1]:
        raise ValueError(
            f"log_probs and labels must have the shapes (B, K) and (B,), not {tuple(log_probs.shape)} and "
            f"{tuple(labels.shape)}."
        )
    labels = class_labels(labels, log_probs)
    log_probs = log_probs if log_probs.dtype == torch.float64 else log_probs.float()
    index = labels.unsqueeze(1)
    log_likelihood = log_probs.gather(1, index).squeeze(1)
    confidence, prediction = log_probs.max(1)
    errors = log_probs.exp().scatter_add_(1, index, torch.full_like(index, -1, dtype=log_probs.dtype))
    brier = errors.square_().sum(1)
    return torch.stack([log_likelihood, confidence.exp(), (prediction == labels).to(brier), brier], dim=1).float()


def class_labels(labels: Tensor, log_probs: Tensor) -> Tensor:
    """
    `labels` (B,) as int64 where `log_probs` (B, K) are.

    Raises:
        ValueError: they are no whole numbers, or no classes. On a GPU such an index would end the process.
    """
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be whole numbers, not {labels.dtype}.")
    labels = labels.to(log_probs.device, torch.int64)
    if not torch.all((labels >= 0) & (labels < log_probs.shape[1])):
        raise ValueError(
            f"labels must be classes 0 to {log_probs.shape[1] - 1}, not {labels.min().item()} to "
            f"{labels.max().item()}; leave out ignored examples (label -100)."
        )
    return labels
