"""How good a mixture of Gaussians, the predictive of a regression or forecast, was for each example."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["COVERAGES", "GAUSSIAN_SCORES", "gaussian_mixture_scores"]

COVERAGES = (0.5, 0.8, 0.9, 0.95)
# The names of the scores, in their order.
GAUSSIAN_SCORES = ("mse", "mae", "nll", "crps", *(f"coverage_{100 * level:.0f}" for level in COVERAGES))


@torch.no_grad()
def gaussian_mixture_scores(means: Tensor, variance: Tensor | None, target: Tensor) -> Tensor:
    """
    `GAUSSIAN_SCORES` of the predictive (1/S) Σ_s N(means_s, σ²), averaged over the elements of each example: squared
    and absolute error of its mean; −log density; CRPS in closed form; the share of targets in the central intervals
    of `COVERAGES`.

    Args:
        means: (S, B, ...), of the components.
        variance: σ², broadcast with (B, ...); `None` if it is not known.
        target: (B, ...).

    Returns:
        (B, 8), float32; what needs σ² is NaN where that is not known.

    Source: CRPS: Grimit et al., "The continuous ranked probability score for circular variables and its application to
    mesoscale forecast ensemble verification", QJRMS 2006.
    """
    means, target = means.float(), target.float()
    error = means.mean(0) - target
    scores = [error.square(), error.abs()]
    if variance is None:
        scores += [torch.full_like(error, torch.nan)] * (len(GAUSSIAN_SCORES) - 2)
    else:
        std = variance.to(means).sqrt()
        z = (target - means) / std
        log_density = (-0.5 * z.square()).logsumexp(0) - math.log(len(means)) - std.log() - 0.5 * math.log(2 * math.pi)
        probability = torch.special.ndtr(z).mean(0)  # of less than the target: inside if near one half
        scores += [-log_density, _crps(means, std, z)]
        scores += [((probability - 0.5).abs() <= level / 2).float() for level in COVERAGES]
    return torch.stack([score.reshape(len(score), -1).mean(1) for score in scores], dim=1)


def _crps(means: Tensor, std: Tensor, z: Tensor) -> Tensor:
    """E|Y − y| − ½ E|Y − Y'| for independent Y, Y' of the mixture."""
    spread = sum(_expected_distance((means[:i] - means[i]) / (std * 2**0.5)).sum(0) for i in range(1, len(means)))
    own = len(means) / math.sqrt(math.pi)  # E|Y − Y'| within a component is 2σ/√π
    return std * (_expected_distance(z).mean(0) - (2**0.5 * spread + own) / len(means) ** 2)


def _expected_distance(z: Tensor) -> Tensor:
    """E|X − z| for a standard normal X."""
    return z * (2 * torch.special.ndtr(z) - 1) + (2 / math.sqrt(2 * math.pi)) * torch.exp(-0.5 * z.square())
