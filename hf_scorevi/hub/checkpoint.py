"""
The stored posterior: `posterior.safetensors` and `posterior_config.json` beside the mean's own files
(docs/checkpoint.md).

Only safetensors and JSON are read. Each file is written aside and renamed, and the configuration, which carries the
hashes of the files it belongs to, comes last: what is left by a crash is refused on reading instead of misread.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import PosteriorCheckpointError
from ..heads import base_of
from ..posterior import Posterior, PosteriorConfig, TensorSummary, summarise
from ..predictive import GaussianNoise
from .base_weights import BaseRecord, split_base
from .files import remove, write_aside
from .keys import file_keys
from .own_modules import whole_tensors
from .untrusted import sha256

__all__ = [
    "BASE_NAME",
    "FORMAT_VERSION",
    "MEAN_FILE",
    "POSTERIOR_CONFIG_NAME",
    "POSTERIOR_FILE",
    "POSTERIOR_NAME",
    "StoredPosterior",
    "file_hashes",
    "file_names",
    "save_posterior",
]

FORMAT_VERSION = "1.4"
POSTERIOR_NAME = "posterior.safetensors"
POSTERIOR_CONFIG_NAME = "posterior_config.json"

# No other name is ever read or fetched as weights: a variant of the model (model.fp16.safetensors) is not the mean.
MEAN_FILE = re.compile(r"(adapter_)?model(-\d{5}-of-\d{5})?\.safetensors|base_weights\.safetensors")
# Of an adapter's base, what its own checkpoint does not give back.
BASE_NAME = "base_weights.safetensors"
POSTERIOR_FILE = re.compile(r"posterior(-\d{5}-of-\d{5})?\.safetensors")
_INDEX_NAME = f"{POSTERIOR_NAME}.index.json"


@dataclass
class StoredPosterior:
    """
    The contents of `posterior_config.json`, less what describes the files.

    Attributes:
        config: what the user chose.
        num_data: N, terms of the likelihood.
        temperature: T as resolved.
        likelihood: `kind` and `loss_scale` of the likelihood behind the loss; of a Gaussian its `noise_variance`, a
            number or nested lists, and `window_noise`, if that of the predictive is another.
        method: objective, update, and their settings.
        training: data, optimizer and other settings of the run, for the card.
        base: of an adapter, what its base was; `None` if that is not known.
    """

    config: PosteriorConfig
    num_data: int
    temperature: float
    likelihood: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    base: BaseRecord | None = None

    @property
    def noise_variance(self) -> Tensor | None:
        """
        The noise variance of a Gaussian likelihood, (), (C,), (H, 1) or (H, C), float64; `None` for others, or if it
        is not known.
        """
        value = self.likelihood.get("noise_variance")
        if value is None and isinstance(self.config.noise_variance, float):  # up to format 1.2
            value = self.config.noise_variance
        return None if value is None else torch.tensor(value, dtype=torch.float64)

    @property
    def noise(self) -> GaussianNoise | None:
        """The noise of the predictive: that of the likelihood, or proportional to the variance of the window."""
        window = self.likelihood.get("window_noise")
        if window is not None:
            return GaussianNoise(*(torch.tensor(window[name], dtype=torch.float64) for name in ("factor", "floor")))
        variance = self.noise_variance
        return None if variance is None else GaussianNoise(variance)


def save_posterior(
    folder: str | os.PathLike[str],
    model: nn.Module,
    posterior: Posterior,
    stored: StoredPosterior,
    state: Sequence[tuple[str, str, Tensor]] | None = None,
    summary: Sequence[TensorSummary] | None = None,
    max_shard_size: int | str = "5GB",
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """
    Write the posterior of `model` into `folder`, where the mean's weights already are; and beside an adapter what its
    base's own checkpoint does not give back. `stored.base` becomes what the base was found to be.

    Args:
        state, summary: `posterior.whole_state()` and `summarise(posterior)`, if the weights are split and all
            processes have joined in gathering them.
        max_shard_size: a posterior larger than this becomes several files and an index.
        weights: the whole `model.state_dict()`, where the model has but a part of them.
    """
    folder = Path(folder)
    if not any(name != BASE_NAME for name in file_names(folder, MEAN_FILE)):
        raise PosteriorCheckpointError(
            f"{folder} holds no weights (model.safetensors or adapter_model.safetensors); save the mean there first."
        )
    _write_base(folder, model, stored, weights)
    hashes = file_hashes(folder, MEAN_FILE)
    keys = file_keys(model, posterior.names)
    tensors = {keys[name] + suffix: t.detach().cpu().contiguous() for name, suffix, t in state or posterior.state()}
    files = _write_tensors(folder, tensors, max_shard_size)
    summary = summary or summarise(posterior)
    contents = {
        "format_version": FORMAT_VERSION,
        "posterior": stored.config.to_dict(),
        "num_data": stored.num_data,
        "temperature": stored.temperature,
        "likelihood": stored.likelihood,
        "method": stored.method,
        "training": stored.training,
        "num_weights": posterior.num_weights,
        "num_parameters": sum(p.numel() for p in model.parameters()),
        "weights": [keys[name] for name in posterior.names],
        "summary": {keys[name]: list(own) for name, own in zip(posterior.names, summary, strict=True)},
        "mean_sha256": hashes,
        "posterior_sha256": {name: sha256(folder / name) for name in files},
        "library_versions": _library_versions(),
    }
    base = base_of(model)
    if stored.base is not None:
        contents["base"] = stored.base.to_dict()
    if not isinstance(base, PreTrainedModel):
        contents["module"] = type(base).__name__
    elif base is not model:
        contents["base_config"] = _base_config(base)
    text = json.dumps(contents, indent=2) + "\n"
    write_aside(folder / POSTERIOR_CONFIG_NAME, lambda path: path.write_text(text, encoding="utf-8"))


def _write_tensors(folder: Path, tensors: dict[str, Tensor], max_shard_size: int | str) -> list[str]:
    """Write the tensors, delete the files of an earlier save, and return the names of those written."""
    split = split_torch_state_dict_into_shards(
        tensors, filename_pattern="posterior{suffix}.safetensors", max_shard_size=max_shard_size
    )
    for name, keys in split.filename_to_tensors.items():
        shard = {key: tensors[key] for key in keys}
        write_aside(folder / name, lambda path, shard=shard: save_file(shard, path, metadata={"format": "pt"}))  # type: ignore[misc]
    if split.is_sharded:
        text = json.dumps({"metadata": split.metadata, "weight_map": split.tensor_to_filename}, indent=2) + "\n"
        write_aside(folder / _INDEX_NAME, lambda path: path.write_text(text, encoding="utf-8"))
    else:
        remove(folder / _INDEX_NAME)
    for name in file_names(folder, POSTERIOR_FILE):
        if name not in split.filename_to_tensors:
            remove(folder / name)
    return list(split.filename_to_tensors)


def _write_base(folder: Path, model: nn.Module, stored: StoredPosterior, weights: Mapping[str, Tensor] | None) -> None:
    changed: dict[str, Tensor] = {}
    if hasattr(model, "peft_config"):
        stored.base, changed = split_base(model, stored.base, weights)
    if changed:
        tensors = whole_tensors(changed)
        write_aside(folder / BASE_NAME, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    else:
        remove(folder / BASE_NAME)


def _base_config(base: PreTrainedModel) -> dict[str, Any]:
    """An adapter's own files do not say which class it belongs to, nor the classes of a new head."""
    values = json.loads(base.config.to_json_string(use_diff=False)) | {"architectures": [type(base).__name__]}
    values.pop("_name_or_path", None)  # the adapter's configuration has it; here a folder would be told to everybody
    return values


def file_names(folder: Path, pattern: re.Pattern[str]) -> list[str]:
    """Return the names in `folder` that the pattern matches, sorted."""
    return sorted(path.name for path in folder.iterdir() if pattern.fullmatch(path.name))


def file_hashes(folder: Path, pattern: re.Pattern[str]) -> dict[str, str]:
    """Return the SHA-256 of each file whose name the pattern matches, by name."""
    return {name: sha256(folder / name) for name in file_names(folder, pattern)}


def _library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("hf_scorevi", "torch", "transformers", "peft", "accelerate"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
