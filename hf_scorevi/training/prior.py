"""The prior a trainer starts from."""

from __future__ import annotations

import torch

from ..posterior import GaussianPrior, Posterior, PosteriorConfig, weight_scales

__all__ = ["initial_prior"]


def initial_prior(posterior: Posterior, config: PosteriorConfig) -> GaussianPrior:
    """
    Centred as `config.prior_mean` says, with the fixed `prior_std` or, for `"auto"`, starting at the scale of
    each tensor's weights, or of all weights where that is larger.

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
    if learn:
        scales = weight_scales(posterior.params)
        # A small tensor (biases near zero) must be free to move as far as the others.
        sizes = [p.numel() for p in posterior.params]
        overall = (sum(n * s * s for n, s in zip(sizes, scales, strict=True)) / sum(sizes)) ** 0.5
        std = [max(scale, overall) for scale in scales]
    else:
        std = [float(config.prior_std)] * len(means)
    return GaussianPrior(means, std, learn_std=learn)
