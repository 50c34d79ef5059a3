"""The weights of modules that have no `save_pretrained`: a user's own, around a backbone or without one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PosteriorCheckpointError
from .untrusted import StoredTensors, short

__all__ = ["check_fit", "load_module", "own_tensors", "whole_tensors"]


def whole_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of `state` as safetensors files can have them: each with memory of its own, on the CPU."""
    found: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):  # what a module's get_extra_state gives
            continue
        whole = tensor.detach().cpu().contiguous()
        if whole.untyped_storage().data_ptr() in taken or whole.untyped_storage().nbytes() != whole.nbytes:
            whole = whole.clone()
        taken.add(whole.untyped_storage().data_ptr())
        found[name] = whole
    return found


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of its `state_dict`, themselves."""
    return {name: t for name, t in module.state_dict(keep_vars=True).items() if isinstance(t, Tensor)}


def load_module(module: nn.Module, weights: StoredTensors, folder: Path) -> None:
    """
    Put `weights`, all of them and nothing else, into `module`.

    Raises:
        PosteriorCheckpointError: names or shapes are others.
    """
    tensors = own_tensors(module)
    check_fit(module, {name: tuple(t.shape) for name, t in tensors.items()}, weights.shapes, folder)
    with torch.no_grad():
        for name, tensor in weights.read(weights.shapes):
            tensors[name].copy_(tensor)


def check_fit(
    module: nn.Module, own: Mapping[str, tuple[int, ...]], stored: Mapping[str, tuple[int, ...]], folder: Path
) -> None:
    """Refuse a checkpoint whose tensors, in shapes by name, are not those of `module`."""
    advice = "Give one of the class and with the settings that was trained, such as the number of classes."
    said = f"The {type(module).__name__} that is to hold the weights in {folder}"
    for problem, names in (
        ("lacks {} of them", stored.keys() - own.keys()),
        ("has {} tensors more", own.keys() - stored.keys()),
    ):
        if names:
            raise PosteriorCheckpointError(f"{said} {problem.format(len(names))}, e.g. {short(min(names))}. {advice}")
    for name, shape in stored.items():
        if own[name] != shape:
            raise PosteriorCheckpointError(
                f"{said} does not fit them: its {short(name)} has the shape {own[name]}, theirs {shape}. {advice}"
            )
