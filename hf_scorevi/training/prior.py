"""The prior a trainer starts from."""

from __future__ import annotations

import torch

from ..posterior import GaussianPrior, Posterior, PosteriorConfig, weight_scales

__all__ = ["initial_prior"]


def initial_prior(posterior: Posterior, config: PosteriorConfig) -> GaussianPrior:
    """
    Centred as `config.prior_mean` says, with the fixed `prior_std` or, for `"auto"`, starting at each tensor's scale.

    transformers marks the weights that it read from a checkpoint. Where some are marked, a matrix that is not (a new
    head) was just initialised at random: it is centred at zero.
    """
    loaded = [getattr(p, "_is_hf_initialized", False) for p in posterior.params]
    means = []
    for p, from_checkpoint in zip(posterior.params, loaded, strict=True):
        new_head = any(loaded) and not from_checkpoint and p.dim() > 1
        if config.prior_mean == "zero" or new_head:
            means.append(torch.zeros((), device=p.device))
        else:
            means.append(p.detach().clone())
    learn = config.prior_std == "auto"
    std = weight_scales(posterior.params) if learn else [float(config.prior_std)] * len(means)
    return GaussianPrior(means, std, learn_std=learn)
