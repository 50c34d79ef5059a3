"""
The stored posterior: `posterior.safetensors` and `posterior_config.json` beside the mean's own files.

Only safetensors and JSON are read. Each file is written aside and renamed, and the configuration, which carries the
hash of the mean it belongs to, comes last: what is left by a crash is refused on reading instead of misread.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig

from ..errors import PosteriorCheckpointError
from ..posterior import FAMILIES, GaussianFamily, Posterior, PosteriorConfig, local
from .keys import file_keys

__all__ = [
    "FORMAT_VERSION",
    "POSTERIOR_CONFIG_NAME",
    "POSTERIOR_NAME",
    "StoredPosterior",
    "load_posterior",
    "read_base_config",
    "save_posterior",
    "write_aside",
]

FORMAT_VERSION = "1.1"
POSTERIOR_NAME = "posterior.safetensors"
POSTERIOR_CONFIG_NAME = "posterior_config.json"

_MEAN_PATTERNS = ("model*.safetensors", "adapter_model*.safetensors")


@dataclass
class StoredPosterior:
    """
    The contents of `posterior_config.json`, less what describes the files.

    Attributes:
        config: what the user chose.
        num_data: N, terms of the likelihood.
        temperature: T as resolved.
        likelihood: `kind` and `loss_scale` of the likelihood behind the loss.
        method: objective, update, and their settings.
    """

    config: PosteriorConfig
    num_data: int
    temperature: float
    likelihood: dict[str, Any] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)


def save_posterior(
    folder: str | os.PathLike[str],
    model: nn.Module,
    posterior: Posterior,
    stored: StoredPosterior,
    state: Sequence[tuple[str, str, Tensor]] | None = None,
) -> None:
    """
    Write the posterior of `model` into `folder`, where the mean's weights already are.

    Args:
        state: `posterior.whole_state()`, if the weights are split and all processes have joined in gathering it.
    """
    folder = Path(folder)
    hashes = _mean_hashes(folder)
    if not hashes:
        raise PosteriorCheckpointError(
            f"{folder} holds no weights (model.safetensors or adapter_model.safetensors); save the mean there first."
        )
    keys = file_keys(model, posterior.names)
    tensors = {keys[name] + suffix: t.detach().cpu().contiguous() for name, suffix, t in state or posterior.state()}
    contents = {
        "format_version": FORMAT_VERSION,
        "posterior": stored.config.to_dict(),
        "num_data": stored.num_data,
        "temperature": stored.temperature,
        "likelihood": stored.likelihood,
        "method": stored.method,
        "num_weights": posterior.num_weights,
        "weights": [keys[name] for name in posterior.names],
        "mean_sha256": hashes,
        "library_versions": _library_versions(),
    }
    if hasattr(model, "peft_config"):
        contents["base_config"] = _base_config(model)
    write_aside(folder / POSTERIOR_NAME, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    text = json.dumps(contents, indent=2) + "\n"
    write_aside(folder / POSTERIOR_CONFIG_NAME, lambda path: path.write_text(text, encoding="utf-8"))


def load_posterior(folder: str | os.PathLike[str], model: nn.Module) -> tuple[Posterior, StoredPosterior]:
    """
    The posterior in `folder` over the weights of `model`, which holds the mean of the same folder. Of weights that
    FSDP2 has split it stands for the whole, until `Posterior.follow`.

    Raises:
        PosteriorCheckpointError: there is none, it is damaged, of a newer format, or belongs to another mean; the
            sentence says which, and what to do.
    """
    folder = Path(folder)
    contents = _read_config(folder)
    stored = _parse(contents, folder)
    _check_mean(folder, contents)
    tensors = _read_tensors(folder / POSTERIOR_NAME)
    weights = contents.get("weights", [])
    params = {name: _whole(p) for name, p in model.named_parameters()}
    names = {key: name for name, key in file_keys(model, params).items()}
    for key in weights:
        if key not in names:
            raise PosteriorCheckpointError(
                f"{folder / POSTERIOR_NAME} has a precision for {key!r}, which {type(model).__name__} does not have. "
                "Load it with the model class that config.json names."
            )
    keys = {names[key]: key for key in weights}
    # A model's own order, which numbers the noise.
    chosen = {name: p for name, p in params.items() if name in keys}
    config = stored.config
    for name, p in chosen.items():  # before anything of that size is allocated
        if problem := FAMILIES[config.family].problem(p.shape):
            raise PosteriorCheckpointError(f"{folder / POSTERIOR_CONFIG_NAME} cannot be right: {name}: {problem}.")
    posterior = Posterior(chosen, FAMILIES[config.family](list(chosen.values()), [1.0] * len(chosen), config.rank))
    live = {keys[name] + suffix: value for name, suffix, value in posterior.state()}
    for problem, found in (("lacks", live.keys() - tensors.keys()), ("has unexpected", tensors.keys() - live.keys())):
        if found:
            raise PosteriorCheckpointError(
                f"{folder / POSTERIOR_NAME} {problem} {len(found)} of the {len(live)} tensors that the weights in "
                f"{POSTERIOR_CONFIG_NAME} need, e.g. {min(found)!r}. Both files must come from the same save; fetch "
                "or save the checkpoint again."
            )
    with torch.no_grad():
        for name, suffix, value in posterior.state():
            key = keys[name] + suffix
            _check(tensors[key], value, key, posterior.family, suffix)
            value.copy_(tensors[key])
    return posterior, stored


def _whole(parameter: nn.Parameter) -> nn.Parameter:
    """The parameter; for a distributed one a stand-in of its shape that takes no memory."""
    if local(parameter) is parameter:
        return parameter
    return nn.Parameter(torch.zeros((), dtype=torch.float32).expand(parameter.shape), requires_grad=False)


def read_base_config(folder: str | os.PathLike[str]) -> PreTrainedConfig | None:
    """The configuration of the model that the adapter in `folder` belongs to, or `None` if it is not recorded."""
    values = dict(_read_config(Path(folder)).get("base_config") or {})
    try:
        return AutoConfig.for_model(values.pop("model_type"), **values)
    except (KeyError, ValueError):
        return None


def write_aside(path: Path, write: Any) -> None:
    """Let `write` make the file under a temporary name, then rename it: `path` is whole or untouched."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _base_config(model: nn.Module) -> dict[str, Any]:
    """An adapter's own files do not say which class it belongs to, nor the classes of a new head."""
    base = model.get_base_model()  # type: ignore[operator]
    return json.loads(base.config.to_json_string(use_diff=False)) | {"architectures": [type(base).__name__]}


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / POSTERIOR_CONFIG_NAME
    if not path.is_file():
        raise PosteriorCheckpointError(
            f"{folder} has no {POSTERIOR_CONFIG_NAME}: it holds no posterior. Use AutoModel… for the weights alone, "
            "or train one with ScoreVITrainer."
        )
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
        major = int(str(contents["format_version"]).split(".")[0])
    except (ValueError, KeyError, TypeError) as error:
        raise PosteriorCheckpointError(f"{path} is not a posterior's configuration: {error!r}.") from error
    if major > int(FORMAT_VERSION.split(".")[0]):
        raise PosteriorCheckpointError(
            f"{path} has format version {contents['format_version']}; this hf_scorevi reads up to {FORMAT_VERSION}. "
            "Upgrade hf_scorevi."
        )
    return contents


def _parse(contents: dict[str, Any], folder: Path) -> StoredPosterior:
    try:
        return StoredPosterior(
            config=PosteriorConfig.from_dict(contents["posterior"]),
            num_data=int(contents["num_data"]),
            temperature=float(contents["temperature"]),
            likelihood=dict(contents["likelihood"]),
            method=dict(contents["method"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PosteriorCheckpointError(f"{folder / POSTERIOR_CONFIG_NAME} is damaged: {error}") from error


def _check_mean(folder: Path, contents: dict[str, Any]) -> None:
    recorded = contents.get("mean_sha256") or {}
    actual = _mean_hashes(folder)
    if recorded != actual:
        changed = sorted(name for name in recorded.keys() | actual.keys() if recorded.get(name) != actual.get(name))
        raise PosteriorCheckpointError(
            f"The posterior in {folder} belongs to another mean: {', '.join(changed) or 'the weights'} differ(s) from "
            f"the SHA-256 in {POSTERIOR_CONFIG_NAME}. Weights and posterior must come from the same save; fetch or "
            "save the checkpoint again."
        )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise PosteriorCheckpointError(f"{path} is missing; fetch or save the checkpoint again.")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise PosteriorCheckpointError(
            f"{path} cannot be read ({error}); it is truncated or damaged. Fetch or save the checkpoint again."
        ) from error


def _check(stored: Tensor, live: Tensor, key: str, family: GaussianFamily, suffix: str) -> None:
    if stored.shape != live.shape:
        raise PosteriorCheckpointError(
            f"The precision of {key!r} has shape {tuple(stored.shape)}; a posterior of family {family.name!r} over "
            f"this weight needs {tuple(live.shape)}. The posterior does not fit its mean."
        )
    finite = stored.is_floating_point() and bool(stored.isfinite().all())
    damage = family.damage(suffix, stored) if finite else "is not finite everywhere"
    if damage:
        raise PosteriorCheckpointError(
            f"The precision of {key!r} {damage}; the file is damaged. Fetch or save the checkpoint again."
        )


def _mean_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of the mean's weights, by name."""
    files = sorted({path for pattern in _MEAN_PATTERNS for path in folder.glob(pattern)})
    return {path.name: _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("hf_scorevi", "torch", "transformers", "peft", "accelerate"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
