"""Checks that all acquisition functions share."""

from __future__ import annotations

import torch
from torch import Tensor

SUM_TOLERANCE = 1e-3  # that of hf_scorevi.metrics: enough for float16, too little for logits


def checked(probabilities: Tensor) -> Tensor:
    """Return probabilities, (B, K) or (S, B, K), in float32 or float64, or raise a ValueError."""
    shape = tuple(probabilities.shape)
    if len(shape) not in (2, 3) or 0 in shape or shape[-1] == 1:
        raise ValueError(
            f"Probabilities must have the shape (B, K) or (S, B, K) with at least two classes, not {shape}; "
            "for a binary model give both columns, [1 - p, p]."
        )
    values = probabilities.detach()
    values = values if values.dtype == torch.float64 else values.float()
    if not ((values >= 0).all() and ((values.sum(-1) - 1).abs() <= SUM_TOLERANCE).all()):
        raise ValueError("These are no probabilities: apply softmax to logits first.")
    return values


def check_k(k: int, num_examples: int) -> None:
    """Raise a ValueError unless k examples can be chosen."""
    if not 1 <= k <= num_examples:
        raise ValueError(f"k must be 1 to the number of examples, {num_examples}, not {k!r}.")


def entropies(probabilities: Tensor) -> Tensor:
    """Return the entropies over the last dimension, in nats."""
    return torch.special.entr(probabilities).sum(-1)
