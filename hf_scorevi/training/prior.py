"""The prior a trainer starts from."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from ..posterior import GaussianPrior, Posterior, PosteriorConfig, weight_scales

__all__ = ["initial_prior"]


def initial_prior(model: nn.Module, posterior: Posterior, config: PosteriorConfig) -> GaussianPrior:
    """
    Return a prior centred as `config.prior_mean` says, with the fixed `prior_std` or, for `"auto"`, starting at the
    root mean square of each tensor's weights, or of all weights where that is larger.

    A new head, whose matrices `from_pretrained` had to initialise at random, is centred at zero. Collective if weights
    are split.
    """
    new = _new_matrices(model)
    zero = [config.prior_mean == "zero" or name in new for name in posterior.names]
    means = [
        torch.zeros((), device=p.device) if at_zero else p.detach().clone()
        for p, at_zero in zip(posterior.params, zero, strict=True)
    ]
    learn = config.prior_std == "auto"
    if learn:
        scales, sizes = weight_scales(posterior.params, posterior.shards), posterior.shards.sizes
        # A small tensor (biases near zero) must be free to move as far as the others.
        overall = (sum(n * s * s for n, s in zip(sizes, scales, strict=True)) / sum(sizes)) ** 0.5
        std = [max(scale, overall) for scale in scales]
    else:
        std = [float(config.prior_std)] * len(means)
    return GaussianPrior(means, std, learn_std=learn)


def _new_matrices(model: nn.Module) -> set[str]:
    """
    Return the names of the matrices that belong to the model but were not in the checkpoint it was loaded from.

    transformers marks the weights that it has read; a model with none of them was not loaded at all. PEFT trains a
    copy of a new head, whose original still shows where it came from; an adapter's weights are not the model's.
    """
    params: dict[str, Tensor] = dict(model.named_parameters())
    if not any(_was_read(p) for p in params.values()):
        return set()
    new = set()
    for name, p in params.items():
        original = params.get(re.sub(r"\.modules_to_save\.[^.]+\.", ".original_module.", name), p)
        of_model = original is not p or not hasattr(model, "peft_config")
        if of_model and not _was_read(original) and p.dim() > 1:
            new.add(name)
    return new


def _was_read(parameter: Tensor) -> bool:
    return getattr(parameter, "_is_hf_initialized", False)
