"""The names of a model's weights in its checkpoint files, which are not always those in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

__all__ = ["file_keys", "keys_of"]


def file_keys(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """
    Return for each parameter name in `names` the key under which `model.save_pretrained` stores it.

    transformers renames weights when it saves (ViT: `vit.layers.0.attention.q_proj` becomes
    `vit.encoder.layer.0.attention.attention.query`), PEFT drops the adapter's name. A weight that is stored only
    merged or split has no key of its own and keeps its name in memory.
    """
    # With the buffers, since PEFT asks for a whole module's at a time.
    keys = keys_of(model, {name: t.shape for name, t in [*model.named_parameters(), *model.named_buffers()]})
    return {name: keys.get(name, name) for name in names}


def keys_of(model: nn.Module, shapes: Mapping[str, Iterable[int]]) -> dict[str, str]:
    """
    Return the key of each tensor of `shapes` that `model.save_pretrained` would store as it is, if the model had
    these.
    """
    # Stand-ins of one number each, whatever their shape: real weights may be distributed, or elsewhere.
    tensors = {name: torch.empty(()).expand(tuple(shape)) for name, shape in shapes.items()}
    keys = {tensor.data_ptr(): key for key, tensor in _stored(model, tensors).items()}
    return {name: keys[t.data_ptr()] for name, t in tensors.items() if t.data_ptr() in keys}


def _stored(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    from peft import PeftModel, get_peft_model_state_dict
    from transformers import PreTrainedModel
    from transformers.core_model_loading import revert_weight_conversion

    if isinstance(model, PeftModel):
        return get_peft_model_state_dict(model, state_dict=tensors, save_embedding_layers=False)
    if isinstance(model, PreTrainedModel):
        return revert_weight_conversion(model, tensors)
    return tensors
