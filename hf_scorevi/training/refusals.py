"""Refusals, in one sentence and before anything is trained, of set-ups whose posterior would be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers.utils import logging

from ..hub import ADAPTERS, base_tensors, is_packed, new_tensors

if TYPE_CHECKING:
    from .renewing import RenewingTrainer

__all__ = ["refuse_pruning", "refuse_unsupported", "upcast"]

logger = logging.get_logger(__name__)

# Optimizers that step inside backward, while the weights are perturbed.
_STEP_IN_BACKWARD = ("lomo", "adalomo")


def refuse_unsupported(trainer: RenewingTrainer) -> None:
    """Raise `ValueError` for set-ups under which the posterior would be wrong."""
    args = trainer.args
    optim = str(getattr(args.optim, "value", args.optim))
    if trainer.is_deepspeed_enabled:
        raise ValueError("DeepSpeed steps the optimizer inside backward, while weights are perturbed; use DDP.")
    family = trainer.posterior_config.family
    if trainer.is_fsdp_enabled:
        if getattr(trainer.accelerator.state.fsdp_plugin, "fsdp_version", 1) != 2:
            raise ValueError("FSDP1 flattens weights into one another; set fsdp_version: 2 in fsdp_config.")
        if family not in ("isotropic", "diagonal"):
            raise ValueError(
                f"FSDP2 splits weights by rows, which a {family} posterior cannot be; use DDP, or family='isotropic' "
                "or 'diagonal'."
            )
    if getattr(trainer, "is_distributed_loading_by_transformers", False):
        raise ValueError(
            "A model that from_pretrained has distributed (distributed_config) is not supported; load it whole, and "
            "let FSDP2 split it (accelerate launch)."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"nn.DataParallel over {args.n_gpu} GPUs is not supported; start one process per GPU with torchrun or "
            "accelerate launch, or set CUDA_VISIBLE_DEVICES to one."
        )
    if optim in _STEP_IN_BACKWARD or "layerwise" in optim:
        raise ValueError(f"optim={optim!r} steps inside backward, while weights are perturbed; choose another optim.")
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
    refuse_adapter(trainer.model)


def refuse_adapter(model: nn.Module) -> None:
    """Raise `ValueError` for a PEFT adapter whose loss is no likelihood, or that cannot be stored with a posterior."""
    from peft import PeftModel

    configs = getattr(model, "peft_config", None)
    if not configs:
        return
    if not isinstance(model, PeftModel):
        raise ValueError(f"{type(model).__name__} has an adapter of its own; train what peft.get_peft_model returns.")
    if model.active_adapters != ["default"]:
        raise ValueError(f"The adapter to train must be the one named 'default', not {model.active_adapters}.")
    peft_type = str(configs["default"].peft_type.value)
    if peft_type not in ADAPTERS:
        raise ValueError(
            f"A posterior over an adapter of type {peft_type} could not be loaded again; those that can are "
            f"{', '.join(ADAPTERS)} (DoRA is a kind of LORA)."
        )
    if weight := getattr(configs["default"], "orth_reg_weight", 0):
        raise ValueError(
            f"AdaLoRA's orth_reg_weight={weight} adds a penalty to the loss, which is then the likelihood of no data. "
            "Give AdaLoraConfig(orth_reg_weight=0.0); the prior takes its place."
        )
    refuse_pruning(model)
    _warn_of_weights_outside(model)


def _warn_of_weights_outside(model: nn.Module) -> None:
    """Warn of weights outside an adapter that PEFT alone will not load, or that will stay random."""
    alone = "They are saved beside the adapter, for BayesianModel.from_pretrained; PEFT alone does not read them"
    new, tensors = new_tensors(model), base_tensors(model)
    trained = [name for name, t in tensors.items() if t.requires_grad]
    frozen = [name for name, t in new.items() if not t.requires_grad]
    lost = [name for name in frozen if is_packed(new[name])]
    if lost:
        logger.warning(
            f"{_some(lost)}: these weights of the base are new, that is random, and quantised, so that they are "
            "neither trained nor saved. Name their module in llm_int8_skip_modules, and in the adapter's "
            "modules_to_save."
        )
    elif frozen:
        logger.warning(
            f"{_some(frozen)}: these weights of the base are new, that is random, and the adapter leaves them so, "
            f"which makes a poor model. {alone}. Name their module in the adapter's modules_to_save."
        )
    if trained:
        logger.warning(
            f"{_some(trained)}: these weights of the base are trained, but are no part of the adapter. {alone}. Name "
            "their module in the adapter's modules_to_save."
        )
    wrapped = {"modules_to_save", "original_module"}  # the copy that is trained and saved, and the one that rests
    if any(isinstance(m, _BatchNorm) and not wrapped & set(name.split(".")) for name, m in model.named_modules()):
        logger.warning(
            "Training moves the running statistics of batch normalisation, which are no part of the adapter. "
            f"{alone}, unless those layers are named in the adapter's modules_to_save."
        )


def _some(names: Sequence[str]) -> str:
    return repr(names[0]) + (f" (and {len(names) - 1} more)" if len(names) > 1 else "")


def refuse_pruning(model: nn.Module) -> None:
    """Raise `ValueError` once AdaLoRA has pruned ranks: they are not stored, but in memory their noise remains."""
    for config in getattr(model, "peft_config", {}).values():
        if config.peft_type == "ADALORA" and config.rank_pattern:
            raise ValueError(
                "AdaLoRA has pruned ranks (update_and_allocate), which the posterior cannot follow. Leave that call "
                "out: init_r is then the rank to the end."
            )


def upcast(model: nn.Module, params: Mapping[str, Tensor], autocast: bool = False) -> None:
    """
    Convert a model whose Bayesian weights are in half precision, in which draws would be lost, to float32, with a
    warning. Of a PEFT model under autocast, which can compute with both, only modules that are trained are converted.

    Raises:
        ValueError: a Bayesian weight is quantised.
    """
    adapted = hasattr(model, "peft_config")
    if (getattr(model, "is_quantized", False) and not adapted) or any(p.element_size() < 2 for p in params.values()):
        raise ValueError("Quantised weights cannot be Bayesian; put an adapter on the model (PEFT) and train that.")
    half = sorted({str(p.dtype).removeprefix("torch.") for p in params.values() if p.dtype != torch.float32})
    if half:
        frozen = autocast and adapted
        logger.warning(
            f"Bayesian weights in {', '.join(half)} are converted to float32, {'without' if frozen else 'with'} the "
            "rest of the model: the posterior's noise would be lost in rounding. bf16=True still computes in bfloat16."
        )
        for module in model.modules() if frozen else [model]:
            if not frozen or any(p.requires_grad for p in module.parameters(recurse=False)):
                nn.Module.float(module)
