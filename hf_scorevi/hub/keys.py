"""The names of a model's weights in its checkpoint files, which are not always those in memory."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

__all__ = ["file_keys"]


def file_keys(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """
    For each parameter name in `names`, the key under which `model.save_pretrained` stores it.

    transformers renames weights when it saves (ViT: `vit.layers.0.attention.q_proj` becomes
    `vit.encoder.layer.0.attention.attention.query`), PEFT drops the adapter's name. A weight that is stored only
    merged or split has no key of its own and keeps its name in memory.
    """
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    stored = _stored(model, tensors)
    by_storage = {_identity(t): key for key, t in stored.items()}
    return {name: by_storage.get(_identity(tensors[name]), name) for name in names}


def _stored(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    from peft import PeftModel, get_peft_model_state_dict
    from transformers import PreTrainedModel
    from transformers.core_model_loading import revert_weight_conversion

    if isinstance(model, PeftModel):
        return get_peft_model_state_dict(model, state_dict=tensors, save_embedding_layers=False)
    if isinstance(model, PreTrainedModel):
        return revert_weight_conversion(model, {name: t.detach() for name, t in tensors.items()})
    return tensors


def _identity(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), tensor.numel()
