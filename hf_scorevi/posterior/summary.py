"""The width of a posterior, tensor by tensor, for the model card."""

from __future__ import annotations

from typing import NamedTuple

import torch

from .divergence import mean_variance
from .posterior import Posterior

__all__ = ["TensorSummary", "summarise"]


class TensorSummary(NamedTuple):
    """
    One tensor of Bayesian weights.

    Attributes:
        std: root-mean-square σ of its weights, in their units.
        scale: its root-mean-square weight; 0 for a tensor of zeros.
        size: number of weights.
    """

    std: float
    scale: float
    size: int


@torch.no_grad()
def summarise(posterior: Posterior) -> list[TensorSummary]:
    """Return a summary of each tensor, in the order of `posterior.names`; collective if the weights are split."""
    norms = torch.stack([norm.double().cpu() for norm in torch._foreach_norm(posterior.params)])
    sizes = posterior.shards.sizes
    squares = posterior.shards.total(norms.square()).tolist()
    variances = mean_variance(posterior)
    return [
        TensorSummary(variance**0.5, (square / max(size, 1)) ** 0.5, size)
        for variance, square, size in zip(variances, squares, sizes, strict=True)
    ]
