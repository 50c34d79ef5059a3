"""Quantiles of a predictive: of an equally weighted mixture of Gaussians of one variance, or of samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["mixture_quantiles", "sample_quantiles"]

_HALVINGS = 30  # they bring a bracket of a few standard deviations to float32's rounding


@torch.no_grad()
def mixture_quantiles(means: Tensor, variance: Tensor, levels: Sequence[float]) -> Tensor:
    """
    Return the quantiles of a mixture, where its cumulative distribution (1/S) Σ_s Φ((y − means_s)/σ) reaches each of
    `levels`, by bisection.

    Args:
        means: (S, ...), of the components.
        variance: σ², positive, broadcast with (...).
        levels: in (0, 1).

    Returns:
        (len(levels), ...), float32, in units of `means`.

    Raises:
        ValueError: a level outside (0, 1), a variance that is not positive.
    """
    _check_levels(levels)
    if not torch.all(variance > 0):
        raise ValueError("The noise variance must be positive for the predictive to have a density.")
    means, std = means.double(), variance.double().sqrt()
    normal = torch.distributions.Normal(0.0, 1.0)
    found = []
    for level in levels:
        # The mixture's quantile lies between the smallest and the largest of its components'.
        z = normal.icdf(torch.tensor(level, dtype=torch.float64)).item()
        low, high = means.amin(0) + z * std, means.amax(0) + z * std
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            below = normal.cdf((middle - means) / std).mean(0) < level
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        found.append((low + high) / 2)
    return torch.stack(found).float()


@torch.no_grad()
def sample_quantiles(samples: Tensor, levels: Sequence[float]) -> Tensor:
    """
    Return quantiles over the first dimension, by linear interpolation, as `torch.quantile` does for up to 16 million
    numbers; there is no such limit here.

    Args:
        samples: (S, ...).
        levels: in (0, 1).

    Returns:
        (len(levels), ...).

    Raises:
        ValueError: a level outside (0, 1).
    """
    _check_levels(levels)
    ordered = samples.sort(0).values
    found = []
    for level in levels:
        position = level * (len(ordered) - 1)
        below = int(position)
        found.append(ordered[below].lerp(ordered[min(below + 1, len(ordered) - 1)], position - below))
    return torch.stack(found)


def _check_levels(levels: Sequence[float]) -> None:
    if not all(0 < level < 1 for level in levels):
        raise ValueError(f"Quantile levels must lie between 0 and 1, not {list(levels)}.")
