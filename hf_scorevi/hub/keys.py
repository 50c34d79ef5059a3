"""The names of a model's weights in its checkpoint files, which are not always those in memory."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["file_keys"]


def file_keys(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """
    For each parameter name in `names`, the key under which `model.save_pretrained` stores it.

    transformers renames weights when it saves (ViT: `vit.layers.0.attention.q_proj` becomes
    `vit.encoder.layer.0.attention.attention.query`), PEFT drops the adapter's name. A weight that is stored only
    merged or split has no key of its own and keeps its name in memory.
    """
    # Stand-ins of one number each, whatever their shape: real weights may be distributed, or elsewhere.
    # With the buffers, since PEFT asks for a whole module's at a time.
    stored = [*model.named_parameters(), *model.named_buffers()]
    tensors = {name: torch.empty(()).expand(t.shape) for name, t in stored}
    keys = {tensor.data_ptr(): key for key, tensor in _stored(model, tensors).items()}
    return {name: keys.get(tensors[name].data_ptr(), name) for name in names}


def _stored(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    from peft import PeftModel, get_peft_model_state_dict
    from transformers import PreTrainedModel
    from transformers.core_model_loading import revert_weight_conversion

    if isinstance(model, PeftModel):
        return get_peft_model_state_dict(model, state_dict=tensors, save_embedding_layers=False)
    if isinstance(model, PreTrainedModel):
        return revert_weight_conversion(model, tensors)
    return tensors
