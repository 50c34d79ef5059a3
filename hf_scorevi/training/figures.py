"""The figures in a training log that tell a healthy run."""

from __future__ import annotations

import torch

from ..inference import PosteriorUpdate
from ..inference.update import mean_square_shift
from ..posterior import GaussianPrior, Posterior, kl_to_prior, posterior_figures
from .likelihood import Likelihood

__all__ = ["training_figures"]


def training_figures(
    loss: float, posterior: Posterior, prior: GaussianPrior, likelihood: Likelihood, update: PosteriorUpdate
) -> dict[str, float]:
    """
    `expected_nll`: E_q[−log p(y|x,θ)] per term of the likelihood, in nats, on the batches since the last log.
    `kl`: KL(q‖p) in nats. `negative_elbo`: expected_nll + T·KL/N, per term.
    `std_relative_mean`, `std_relative_spread`, `share_at_prior`: see `posterior_figures`.
    `noise_std`: of a Gaussian likelihood, in units of the target, root-mean-square if there are several.
    `shrinkage_weight`: weight of per-weight detail against the tensor's pool, averaged over weights; 0 if isotropic.
    """
    nll = likelihood.negative_log(loss)
    noise = None if likelihood.noise is None else likelihood.noise.value
    kl = kl_to_prior(posterior, prior, mean_square_shift(posterior, prior))
    weights, sizes = update.shrinkage(), torch.tensor([p.numel() for p in posterior.params], dtype=torch.float64)
    shrinkage = 0.0 if weights is None else ((sizes * weights).sum() / sizes.sum()).item()
    return {
        "expected_nll": nll,
        "kl": kl,
        "negative_elbo": nll + kl * likelihood.temperature / likelihood.num_data,
        "shrinkage_weight": shrinkage,
        **({} if noise is None else {"noise_std": noise.mean().sqrt().item()}),
        **posterior_figures(posterior, prior),
    }
