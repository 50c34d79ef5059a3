"""Reading a stored posterior, from anybody: nothing in it is believed before it is checked."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PosteriorCheckpointError
from ..json_values import POSITIVE, json_number, json_object, short
from ..posterior import FAMILIES, GaussianFamily, Posterior, PosteriorConfig, local
from .base_weights import BaseRecord
from .checkpoint import (
    FORMAT_VERSION,
    MEAN_FILE,
    POSTERIOR_CONFIG_NAME,
    POSTERIOR_FILE,
    POSTERIOR_NAME,
    StoredPosterior,
    file_hashes,
)
from .files import is_there, remedy
from .keys import file_keys
from .untrusted import StoredTensors, read_json, sha256

__all__ = ["ADAPTER_NAME", "base_record", "load_posterior", "read_checkpoint", "read_config", "stored_files"]

# The mean, if it is that of an adapter: PEFT has no other name for it, except a pickle's.
ADAPTER_NAME = "adapter_model.safetensors"


def read_checkpoint(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Return the contents of `posterior_config.json` in `folder`, once the mean and the posterior beside it are known to
    be those that it was saved with.

    Raises:
        PosteriorCheckpointError: there is no posterior, it is of a newer format, or a file is missing, damaged or of
            another save; the sentence says which, and what to do.
    """
    folder = Path(folder)
    contents = read_config(folder)
    mean, posterior = stored_files(contents, folder)
    for name in posterior:
        if not is_there(folder / name):
            raise PosteriorCheckpointError(f"{folder / name} is missing. {remedy(folder / name)}")
    actual = file_hashes(folder, MEAN_FILE)
    changed = sorted(name for name in mean.keys() | actual.keys() if mean.get(name) != actual.get(name))
    if changed:
        raise PosteriorCheckpointError(
            f"The posterior in {folder} belongs to another mean: {', '.join(changed[:9])} differ(s) from the "
            f"SHA-256 in {POSTERIOR_CONFIG_NAME}. Weights and posterior must come from the same save. "
            + remedy(folder / changed[0])
        )
    for name, recorded in posterior.items():
        if recorded is not None and sha256(folder / name) != recorded:
            raise PosteriorCheckpointError(
                f"{folder / name} is not the file that was saved: it differs from the SHA-256 in "
                f"{POSTERIOR_CONFIG_NAME}. It is truncated, damaged or of another save. {remedy(folder / name)}"
            )
    return contents


def stored_files(contents: dict[str, Any], folder: Path) -> tuple[dict[str, str], dict[str, str | None]]:
    """
    Return the files of the mean and of the posterior by name, with their SHA-256 (unknown for a posterior before
    format 1.2).

    Raises:
        PosteriorCheckpointError: none are named, or names that no checkpoint has.
    """
    path = folder / POSTERIOR_CONFIG_NAME
    mean, posterior = contents.get("mean_sha256"), contents.get("posterior_sha256")
    for found, pattern in ((mean, MEAN_FILE), (posterior, POSTERIOR_FILE)):
        if found is posterior is None and _version(contents, path) < (1, 2):
            posterior = {POSTERIOR_NAME: None}
        elif not (
            isinstance(found, dict)
            and found
            and all(pattern.fullmatch(name) and isinstance(recorded, str) for name, recorded in found.items())
        ):
            raise PosteriorCheckpointError(
                f"{path} is damaged: it does not name the files of the mean and the posterior. {remedy(path)}"
            )
    return mean, posterior  # type: ignore[return-value]


def load_posterior(
    folder: str | os.PathLike[str], model: nn.Module, contents: dict[str, Any] | None = None
) -> tuple[Posterior, StoredPosterior]:
    """
    Load the posterior in `folder` over the weights of `model`, which holds the mean of the same folder. Of weights
    that FSDP2 has split it stands for the whole, until `Posterior.follow`.

    Args:
        contents: what `read_checkpoint(folder)` has given, if it was called already.

    Raises:
        PosteriorCheckpointError: there is none, it is damaged, of a newer format, or belongs to another mean; the
            sentence says which, and what to do.
    """
    folder = Path(folder)
    path = folder / POSTERIOR_CONFIG_NAME
    contents = read_checkpoint(folder) if contents is None else contents
    stored = _parse(contents, path)
    params = {name: _whole(p) for name, p in model.named_parameters()}
    names = {key: name for name, key in file_keys(model, params).items()}
    weights = contents.get("weights")
    if not isinstance(weights, list) or not weights or not all(isinstance(key, str) for key in weights):
        raise PosteriorCheckpointError(f"{path} is damaged: it does not name its weights. {remedy(path)}")
    for key in weights:
        if key not in names:
            raise PosteriorCheckpointError(
                f"{path} has a posterior over {short(key)}, which {type(model).__name__} does not have. "
                "Load it with a model of the class and the settings that it was trained with."
            )
    keys = {names[key]: key for key in weights}
    # A model's own order, which numbers the noise.
    chosen = {name: p for name, p in params.items() if name in keys}
    family, rank = FAMILIES[stored.config.family], stored.config.rank
    for name, p in chosen.items():  # before anything of that size is allocated
        if problem := family.problem(p.shape):
            raise PosteriorCheckpointError(f"{path} cannot be right: {name}: {problem}.")
    tensors = StoredTensors(folder / name for name in stored_files(contents, folder)[1])
    shapes = {
        keys[name] + suffix: tuple(shape)
        for name, p in chosen.items()
        for suffix, shape in family.shapes(p.shape, rank).items()
    }
    _check_shapes(tensors, shapes, stored.config.family, folder)
    posterior = Posterior(chosen, family(list(chosen.values()), [1.0] * len(chosen), rank))
    live = {keys[name] + suffix: (suffix, value) for name, suffix, value in posterior.state()}
    with torch.no_grad():
        for key, tensor in tensors.read(live):
            suffix, value = live[key]
            _check_values(tensor, key, posterior.family, suffix)
            value.copy_(tensor)
    return posterior, stored


def _whole(parameter: nn.Parameter) -> nn.Parameter:
    """Return the parameter; for a distributed one a stand-in of its shape that takes no memory."""
    if local(parameter) is parameter:
        return parameter
    return nn.Parameter(torch.zeros((), dtype=torch.float32).expand(parameter.shape), requires_grad=False)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the contents of `posterior_config.json`, of a format that can be read; see `read_checkpoint`."""
    path = folder / POSTERIOR_CONFIG_NAME
    if not is_there(path):
        raise PosteriorCheckpointError(
            f"{folder} has no {POSTERIOR_CONFIG_NAME}: it holds no posterior. Use AutoModel… for the weights alone, "
            "or train one with ScoreVITrainer."
        )
    contents = read_json(path)
    if _version(contents, path)[0] > int(FORMAT_VERSION.split(".")[0]):
        raise PosteriorCheckpointError(
            f"{path} has format version {contents['format_version']}; this hf_scorevi reads up to {FORMAT_VERSION}. "
            "Upgrade hf_scorevi."
        )
    return contents


def _version(contents: dict[str, Any], path: Path) -> tuple[int, ...]:
    version = contents.get("format_version")
    if not isinstance(version, str) or not re.fullmatch(r"[0-9]{1,9}\.[0-9]{1,9}", version):
        raise PosteriorCheckpointError(
            f"{path} is not a posterior's configuration: {short(version)} is no format version. {remedy(path)}"
        )
    return tuple(int(part) for part in version.split("."))


def _parse(contents: dict[str, Any], path: Path) -> StoredPosterior:
    try:
        stored = StoredPosterior(
            config=PosteriorConfig.from_dict(json_object("posterior", contents["posterior"])),
            num_data=int(json_number("num_data", contents["num_data"], 1)),
            temperature=json_number("temperature", contents["temperature"], POSITIVE),
            likelihood=json_object("likelihood", contents["likelihood"]),
            method=json_object("method", contents["method"]),
            training=json_object("training", contents.get("training", {})),
            base=base_record(contents, path.parent),
        )
        noise = stored.noise
        own = (None, None) if noise is None else (noise.variance, noise.floor)
        for values, most in zip((stored.noise_variance, *own), (2, 2, 1), strict=True):
            if values is not None and not (values.dim() <= most and values.numel() and _all_positive(values)):
                raise ValueError("the noise must be positive numbers, one in all or lists of one a step or channel")
        for name in ("target", "exclude"):
            value = getattr(stored.config, name)
            if not (value is None or all(isinstance(part, str) for part in value)):
                raise ValueError(f"{name} must be names or globs, not {short(value)}")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        raise PosteriorCheckpointError(f"{path} is damaged: {short(error).rstrip('.')}. {remedy(path)}") from error
    return stored


def base_record(contents: dict[str, Any], folder: Path) -> BaseRecord | None:
    """
    Return what is recorded of the base of the adapter in `folder`; `None` if nothing is, as up to format 1.3.

    Raises:
        PosteriorCheckpointError: it is damaged.
    """
    values, path = contents.get("base"), folder / POSTERIOR_CONFIG_NAME
    try:
        return None if values is None else BaseRecord.from_dict(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PosteriorCheckpointError(f"{path} is damaged: {short(error).rstrip('.')}. {remedy(path)}") from error


def _all_positive(values: Tensor) -> bool:
    return bool((values.isfinite() & (values > 0)).all())


def _check_shapes(tensors: StoredTensors, needed: dict[str, tuple[int, ...]], family: str, folder: Path) -> None:
    stored = tensors.shapes
    for problem, found in (
        ("lacks", needed.keys() - stored.keys()),
        ("has unexpected", stored.keys() - needed.keys()),
    ):
        if found:
            raise PosteriorCheckpointError(
                f"{folder / POSTERIOR_NAME} {problem} {len(found)} of the {len(needed)} tensors that the weights in "
                f"{POSTERIOR_CONFIG_NAME} need, e.g. {short(min(found))}. Both files must come from the same save. "
                + remedy(folder / POSTERIOR_NAME)
            )
    for key, shape in needed.items():
        if stored[key] != shape:
            raise PosteriorCheckpointError(
                f"The precision of {key!r} has shape {stored[key]}; a posterior of family {family!r} over this weight "
                f"needs {shape}. The posterior does not fit its mean: it belongs to a model of other sizes, such as "
                "another number of classes."
            )
        if tensors.dtypes[key] != "F32":
            raise PosteriorCheckpointError(
                f"The precision of {key!r} is stored as {tensors.dtypes[key]}; only F32 (float32) is ever written. "
                "The file is damaged. " + remedy(folder / POSTERIOR_NAME)
            )


def _check_values(stored: Tensor, key: str, family: GaussianFamily, suffix: str) -> None:
    damage = family.damage(suffix, stored) if bool(stored.isfinite().all()) else "is not finite everywhere"
    if damage:
        raise PosteriorCheckpointError(
            f"The precision of {key!r} {damage}; the file is damaged. Fetch or save the checkpoint again."
        )
