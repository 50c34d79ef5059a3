"""KL(q‖p) between the posterior and its prior, and the figures that show a healthy posterior."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .posterior import Posterior, weight_scales
from .prior import GaussianPrior

__all__ = ["kl_to_prior", "mean_variance", "posterior_figures"]

# A weight whose precision the data raised by less than this share of the prior's has learned nothing.
_AT_PRIOR = 0.05


@torch.no_grad()
def kl_to_prior(posterior: Posterior, prior: GaussianPrior, mean_square_shift: list[float]) -> float:
    """
    Return KL(q‖p) = Σ_j ½[λ₀ tr Λ⁻¹ + λ₀ ‖m−μ‖² − D + log det Λ − D log λ₀] in nats; `mean_square_shift` is the mean
    (m−μ)² of each tensor.
    """
    total = 0.5 * posterior.log_det()
    tensors = zip(posterior.shards.sizes, mean_variance(posterior), prior.precision, mean_square_shift, strict=True)
    for size, variance, prior_precision, shift in tensors:
        total += 0.5 * size * (prior_precision * (variance + shift) - 1 - math.log(prior_precision))
    return total


@torch.no_grad()
def mean_variance(posterior: Posterior) -> list[float]:
    """Return the mean variance of each tensor's weights."""
    return _mean(posterior, [posterior.family.mean_variance(i) for i in range(len(posterior.params))]).tolist()


@torch.no_grad()
def posterior_figures(posterior: Posterior, prior: GaussianPrior) -> dict[str, float]:
    """
    Return figures over all weights; collective if these are split.

    `std_relative_mean`, `std_relative_spread`: σ over the tensor's root-mean-square weight, its mean and standard
    deviation over all weights. `share_at_prior`: share of weights whose precision is within 5 % of the prior's.
    """
    scales = torch.tensor(weight_scales(posterior.params, posterior.shards), dtype=torch.float64)
    sizes = torch.tensor(posterior.shards.sizes, dtype=torch.float64)
    mean, square, at_prior = [], [], []
    for i, prior_precision in enumerate(prior.precision):
        variance = posterior.family.variance(i)
        mean.append(variance.sqrt().mean(dtype=torch.float64).item())
        square.append(variance.mean(dtype=torch.float64).item())
        near = posterior.family.diagonal(i) < (1 + _AT_PRIOR) * prior_precision
        at_prior.append(near.float().mean(dtype=torch.float64).item())
    share = sizes / sizes.sum()
    average = (share * _mean(posterior, mean) / scales).sum()
    spread = ((share * _mean(posterior, square) / scales.square()).sum() - average.square()).clamp_min(0)
    return {
        "std_relative_mean": average.item(),
        "std_relative_spread": spread.sqrt().item(),
        "share_at_prior": (share * _mean(posterior, at_prior)).sum().item(),
    }


def _mean(posterior: Posterior, values: list[float]) -> Tensor:
    """Return means over whole weights from means over this process's parts."""
    return posterior.shards.mean(torch.tensor(values, dtype=torch.float64))
