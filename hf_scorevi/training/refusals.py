"""What cannot give a right posterior is refused in one sentence, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.utils import logging

if TYPE_CHECKING:
    from .trainer import ScoreVITrainer

__all__ = ["refuse_unsupported", "upcast"]

logger = logging.get_logger(__name__)

# Optimizers that step inside backward, while the weights are perturbed.
_STEP_IN_BACKWARD = ("lomo", "adalomo")


def refuse_unsupported(trainer: ScoreVITrainer) -> None:
    """Raise `ValueError` for set-ups under which the posterior would be wrong."""
    args = trainer.args
    optim = str(getattr(args.optim, "value", args.optim))
    if trainer.is_deepspeed_enabled:
        raise ValueError("DeepSpeed steps the optimizer inside backward, while weights are perturbed; use DDP.")
    if trainer.is_fsdp_enabled:
        raise ValueError("FSDP is not supported yet; use DDP (torchrun or accelerate launch) or a single process.")
    if args.n_gpu > 1:
        raise ValueError(
            f"nn.DataParallel over {args.n_gpu} GPUs is not supported; start one process per GPU with torchrun or "
            "accelerate launch, or set CUDA_VISIBLE_DEVICES to one."
        )
    if optim in _STEP_IN_BACKWARD or "layerwise" in optim:
        raise ValueError(f"optim={optim!r} steps inside backward, while weights are perturbed; choose another optim.")
    family = trainer.posterior_config.family
    if family == "low_rank" and (args.objective != "score" or args.update != "closed_form"):
        raise ValueError(
            f"A low_rank posterior has an update of its own, under objective='score' with update='closed_form'; "
            f"objective={args.objective!r} with update={args.update!r} is for the other families."
        )
    if args.update == "gradient" and args.score_norm == "none" and family in ("block_diagonal", "full"):
        raise ValueError(f"score_norm='none' is for isotropic and diagonal posteriors, not for {family!r}.")
    if args.fp16_full_eval or args.bf16_full_eval:
        raise ValueError(
            "fp16_full_eval and bf16_full_eval cast the weights, and the posterior's noise would be rounded away; use "
            "bf16=True, which keeps the weights in float32."
        )


def upcast(model: nn.Module, params: Mapping[str, Tensor]) -> None:
    """Bayesian weights in half precision would swallow their noise: bring the model to float32, and say so."""
    if getattr(model, "is_quantized", False) and not hasattr(model, "peft_config"):
        raise ValueError("Quantised weights cannot be Bayesian; put an adapter on the model (PEFT) and train that.")
    half = sorted({str(p.dtype).removeprefix("torch.") for p in params.values() if p.dtype != torch.float32})
    if half:
        logger.warning(
            f"Bayesian weights in {', '.join(half)} are converted to float32, with the rest of the model: the "
            "posterior's noise would be lost in rounding. bf16=True still computes in bfloat16."
        )
        model.float()
