"""Building the model that a checkpoint holds the mean of, without executing anything from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel

from ..errors import PosteriorCheckpointError
from .checkpoint import MEAN_FILE, POSTERIOR_CONFIG_NAME, file_names
from .loading import read_config
from .untrusted import StoredTensors, at_most, read_json, reading

__all__ = ["load_mean", "read_base_config"]

# No model has so many layers or labels, and some configurations make a list of that length at once.
_MAX_COUNT = 10_000_000
_COUNTS = ("num", "layer", "label", "depth", "head", "size")


def load_mean(
    folder: str | os.PathLike[str],
    base_model: nn.Module | None = None,
    model_kwargs: dict[str, Any] | None = None,
    base_kwargs: dict[str, Any] | None = None,
) -> nn.Module:
    """
    The model in `folder` in float32: a transformers model, or an adapter over its base.

    Args:
        folder: with the mean's own files.
        base_model: to put an adapter on, changed in place; default: what the adapter names, rounded and quantised as
            it was in training.
        model_kwargs: passed on to the model's `from_pretrained`.
        base_kwargs: where to look for an adapter's base: `token`, `cache_dir`, `local_files_only`.

    Raises:
        PosteriorCheckpointError: what the files describe cannot be built, or not by transformers alone.
    """
    folder = Path(folder)
    kwargs: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True} | (model_kwargs or {})
    if (folder / "adapter_config.json").is_file():
        return _load_adapter(folder, base_model, kwargs | (base_kwargs or {}))
    path = folder / "config.json"
    config = _build_config(read_json(path), path)
    cls = _model_class(config, path)
    weights = StoredTensors(folder / name for name in file_names(folder, MEAN_FILE))
    # Twice what is stored, and some: weights may be shared or buffers computed.
    _check_size(cls, config, path, 2 * sum(torch.Size(shape).numel() for shape in weights.shapes.values()) + 10**6)
    with reading(path):
        loaded: Any = cls.from_pretrained(folder, config=config, output_loading_info=True, **kwargs)
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise PosteriorCheckpointError(
            f"{folder} has no weights for {len(missing)} tensors of the {cls.__name__} that config.json describes, "
            f"e.g. {missing[0]!r}. Fetch or save the checkpoint again."
        )
    return model


def read_base_config(folder: str | os.PathLike[str]) -> PreTrainedConfig | None:
    """The configuration of the model that the adapter in `folder` belongs to, or `None` if it is not recorded."""
    values = read_config(Path(folder)).get("base_config")
    return None if values is None else _build_config(values, Path(folder) / POSTERIOR_CONFIG_NAME)


def _build_config(values: Any, path: Path) -> PreTrainedConfig:
    """
    The transformers configuration that `values`, read from `path`, describe. Unlike `AutoConfig.from_pretrained` it
    never asks whether to run code from the checkpoint: what transformers does not have is an error.
    """
    with reading(path):
        _refuse_counts(values, path)
        return CONFIG_MAPPING[values["model_type"]].from_dict(dict(values))


def _refuse_counts(values: dict[str, Any], path: Path) -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            _refuse_counts(value, path)
        elif any(part in key for part in _COUNTS):
            numbers = value if isinstance(value, list) else [value]
            if any(isinstance(number, int | float) and abs(number) > _MAX_COUNT for number in numbers):
                raise PosteriorCheckpointError(f"{path} has {key} = {str(value)[:40]}, which cannot be right.")


def _model_class(config: PreTrainedConfig, path: Path) -> type[PreTrainedModel]:
    """The transformers class that `config.architectures` names; never code from the checkpoint."""
    with reading(path):
        name = config.architectures[0] if config.architectures else None
        found = getattr(transformers, name, None) if name is not None else None
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise PosteriorCheckpointError(
            f"The configuration names the architecture {name!r}, which transformers {transformers.__version__} does "
            "not have. Code from a checkpoint is never executed."
        )
    return found


def _check_size(cls: type[PreTrainedModel], config: PreTrainedConfig, path: Path, numbers: float) -> None:
    """Refuse a configuration of more than so many numbers before one of them takes memory."""
    with reading(path), torch.device("meta"), at_most(numbers):
        cls(config)


def _load_adapter(folder: Path, base_model: nn.Module | None, kwargs: dict[str, Any]) -> nn.Module:
    from peft import PeftModel

    path = folder / "adapter_config.json"
    values = read_json(path)
    if base_model is None:
        base_model = _load_base(folder, values, kwargs)
    nn.Module.float(base_model)  # its own float() refuses a quantised model, most of which this leaves alone
    with reading(path):
        return PeftModel.from_pretrained(base_model, str(folder))


def _load_base(folder: Path, adapter: dict[str, Any], kwargs: dict[str, Any]) -> nn.Module:
    """The model that an adapter was trained on, with its head's classes, rounded and quantised as it was."""
    config, name = read_base_config(folder), adapter.get("base_model_name_or_path")
    if config is None or not name:
        raise PosteriorCheckpointError(
            f"{folder} does not say which model its adapter belongs to; give "
            "BayesianModel.from_pretrained(..., base_model=model)."
        )
    path = folder / POSTERIOR_CONFIG_NAME
    cls = _model_class(config, path)
    _check_size(cls, config, path, psutil.virtual_memory().total / 4)  # what its own files hold is not known yet
    kwargs = kwargs | {"dtype": config.dtype or torch.float32, "revision": adapter.get("revision") or "main"}
    where = {key: kwargs[key] for key in ("token", "cache_dir", "local_files_only", "revision") if key in kwargs}
    if hasattr(config, "quantization_config") and not hasattr(
        AutoConfig.from_pretrained(name, **where), "quantization_config"
    ):
        # It was quantised while loading; left in the configuration it would mean that its file is.
        kwargs = {"quantization_config": config.quantization_config} | kwargs
        del config.quantization_config
    with reading(path):
        return cls.from_pretrained(name, config=config, ignore_mismatched_sizes=True, **kwargs)
