"""Whether the posterior's noise survives the rounding of mixed precision."""

from __future__ import annotations

import torch
from transformers import TrainingArguments
from transformers.utils import logging

__all__ = ["warn_if_rounded"]

logger = logging.get_logger(__name__)


def warn_if_rounded(std_relative_mean: float, args: TrainingArguments) -> None:
    """
    Say so if the noise, relative to the weights, is less than half the distance of neighbouring numbers of the dtype
    that matrices are multiplied in (0.004 in bfloat16): most weights would be rounded back to their mean, and
    curvature would be measured too small.
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
