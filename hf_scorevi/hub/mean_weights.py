"""The mean's own weights: written and read for every kind of model, and looked at before they are believed."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel

from ..errors import PosteriorCheckpointError
from ..posterior import local
from .checkpoint import BASE_NAME, MEAN_FILE, file_names
from .files import write_aside
from .own_modules import check_fit, load_module, own_tensors, whole_tensors
from .untrusted import StoredTensors, short

__all__ = ["load_weights", "require_finite", "save_mean"]


def save_mean(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Write the weights of `model` as its library does; those of a user's own module as `model.safetensors`."""
    if isinstance(model, PreTrainedModel) or hasattr(model, "peft_config"):
        model.save_pretrained(folder)  # type: ignore[operator]
        return
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = whole_tensors(model.state_dict())
    write_aside(folder / "model.safetensors", lambda path: save_file(tensors, path, metadata={"format": "pt"}))


def load_weights(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """
    Put the weights in `folder` into `model`, of transformers or of a user's own, as far as it has no adapter.

    Raises:
        PosteriorCheckpointError: they are of another model, not finite, or damaged. `model` is then what it was.
    """
    folder = Path(folder)
    weights = StoredTensors(folder / name for name in file_names(folder, MEAN_FILE) if name != BASE_NAME)
    own_names = {name: tuple(t.shape) for name, t in own_tensors(model).items()} == weights.shapes
    if not isinstance(model, PreTrainedModel) or (model.is_custom_code() and own_names):
        kept = {name for name, t in own_tensors(model).items() if isinstance(t, nn.Parameter)}
        for name, tensor in weights.read(kept & weights.shapes.keys()):
            _require_finite({name: tensor}, folder)
        load_module(model, weights, folder)
        return
    # By way of `from_pretrained`, which undoes the renaming of weights that `save_pretrained` does.
    config = copy.deepcopy(model.config)
    with torch.device("cpu"):
        built: Any = type(model).from_pretrained(
            None,
            config=config,
            state_dict=dict(weights.read(weights.shapes)),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    loaded, info = built
    stored = {name: tuple(t.shape) for name, t in loaded.state_dict().items() if name not in info["missing_keys"]}
    stored |= {name: tuple(was) for name, was, _ in info["mismatched_keys"]}
    stored |= {name: weights.shapes.get(name, ()) for name in info["unexpected_keys"]}
    check_fit(model, {name: tuple(t.shape) for name, t in model.state_dict().items()}, stored, folder)
    require_finite(loaded, folder)
    model.load_state_dict(loaded.state_dict())


def require_finite(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """
    Raise `PosteriorCheckpointError` if a weight of the mean, which was read from `folder`, or a running statistic is
    not finite.
    """
    statistics = [
        (f"{name}.{key}", getattr(module, key))
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for key in ("running_mean", "running_var")
    ]
    _require_finite(dict([*model.named_parameters(), *statistics]), Path(folder))


def _require_finite(tensors: Mapping[str, Tensor | None], folder: Path) -> None:
    found = {
        name: local(t.detach())
        for name, t in tensors.items()
        if t is not None and t.is_floating_point() and t.element_size() > 1 and t.numel()
    }
    found = {name: t for name, t in found.items() if t.numel()}
    largest = torch._foreach_norm(list(found.values()), float("inf"))  # neither copies them nor waits for a device
    for name, norm in zip(found, largest, strict=True):
        if not norm.isfinite():
            raise PosteriorCheckpointError(
                f"The mean of {short(name)} in {folder} is not finite everywhere. It was saved so, by a run that "
                "diverged: load an earlier checkpoint of it, or train again with a lower learning_rate."
            )
