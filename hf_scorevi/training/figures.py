"""The figures in a training log that show a healthy run, and the warning that draws are lost in rounding."""

from __future__ import annotations

import torch
from transformers import TrainingArguments
from transformers.utils import logging

from ..inference import PosteriorUpdate
from ..inference.update import mean_square_shift
from ..posterior import GaussianPrior, Posterior, kl_to_prior, posterior_figures
from .likelihood import Likelihood

__all__ = ["training_figures", "warn_if_rounded"]

logger = logging.get_logger(__name__)


def training_figures(
    loss: float, posterior: Posterior, prior: GaussianPrior, likelihood: Likelihood, update: PosteriorUpdate
) -> dict[str, float]:
    """
    Return the figures of a training log, for whole weights; collective if these are split.

    `expected_nll`: E_q[−log p(y|x,θ)] per term of the likelihood, in nats, on the batches since the last log.
    `kl`: KL(q‖p) in nats. `negative_elbo`: expected_nll + T·KL/N, per term.
    `std_relative_mean`, `std_relative_spread`, `share_at_prior`: see `posterior_figures`.
    `noise_std`: of a Gaussian likelihood, in units of the target, root-mean-square if there are several.
    `shrinkage_weight`: weight of per-weight detail against the tensor's pool, averaged over weights; 0 if isotropic.
    """
    nll = likelihood.negative_log(loss)
    noise = None if likelihood.noise is None else likelihood.noise.value
    kl = kl_to_prior(posterior, prior, mean_square_shift(posterior, prior))
    weights, sizes = update.shrinkage(), torch.tensor(posterior.shards.sizes, dtype=torch.float64)
    shrinkage = 0.0 if weights is None else ((sizes * weights).sum() / sizes.sum()).item()
    return {
        "expected_nll": nll,
        "kl": kl,
        "negative_elbo": nll + kl * likelihood.temperature / likelihood.num_data,
        "shrinkage_weight": shrinkage,
        **({} if noise is None else {"noise_std": noise.mean().sqrt().item()}),
        **posterior_figures(posterior, prior),
    }


def warn_if_rounded(std_relative_mean: float, args: TrainingArguments) -> None:
    """
    Warn if σ, relative to the weights, is less than half the distance of neighbouring numbers of the dtype that
    matrices are multiplied in (0.004 in bfloat16): most weights would be rounded back to their mean, and curvature
    would be measured too small.
    """
    if not (args.bf16 or args.fp16):
        return
    dtype = torch.bfloat16 if args.bf16 else torch.float16
    resolution = torch.finfo(dtype).eps / 2
    if std_relative_mean < resolution:
        logger.warning_once(
            f"The posterior's noise is {std_relative_mean:.2g} of its weights, below the resolution of "
            f"{str(dtype).removeprefix('torch.')} ({resolution:.2g}): much of it is lost in rounding, and the "
            "posterior would come out too wide. Train in float32, or raise PosteriorConfig(init_std=...)."
        )
