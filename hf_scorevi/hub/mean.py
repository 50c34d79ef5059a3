"""
Loading the mean of a posterior: building the model that a checkpoint holds, without executing anything from it.

The libraries get configurations and tensors that were read and checked here. They look into a folder for nothing but
an adapter's one file of weights, since there is much that they would take up from there: code, pickles, other models.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from .. import models as own_models
from ..errors import PosteriorCheckpointError
from .adapter_config import ADAPTERS, only_stored_modules, read_adapter_config
from .base_checks import check_base, restore_base, stored_base
from .base_weights import BaseRecord
from .checkpoint import BASE_NAME, MEAN_FILE, POSTERIOR_CONFIG_NAME, file_names
from .fetching import GENERATION_NAME, fetch_base
from .files import is_there, remedy
from .keys import keys_of
from .loading import ADAPTER_NAME, base_record, read_config
from .mean_weights import load_weights, require_finite
from .model_config import FEW, OWN_BASE, build_config
from .network import without_network
from .untrusted import StoredTensors, at_most, read_json, reading, short

__all__ = ["ADAPTERS", "load_mean"]

logger = logging.get_logger(__name__)


def load_mean(
    folder: str | os.PathLike[str],
    base_model: nn.Module | None = None,
    model_kwargs: dict[str, Any] | None = None,
    base_kwargs: dict[str, Any] | None = None,
) -> nn.Module:
    """
    Return the model in `folder` in float32: a transformers model, or an adapter over its base.

    Args:
        folder: with the mean's own files.
        base_model: to put an adapter on, changed in place; default: what the adapter names, rounded and quantised as
            it was in training. Without an adapter: the model to put the weights into, a module of the user's own for
            instance.
        model_kwargs: passed on to the model's `from_pretrained`.
        base_kwargs: where to look for an adapter's base: `token`, `cache_dir`, `local_files_only`.

    Raises:
        PosteriorCheckpointError: what the files describe cannot be built, or not by transformers alone.
        HfHubHTTPError, OSError: the Hub broke off while the base was fetched.
    """
    folder = Path(folder)
    kwargs = (model_kwargs or {}) | {"dtype": torch.float32}
    if base_model is not None and any(t.is_meta for t in [*base_model.parameters(), *base_model.buffers()]):
        raise ValueError("base_model has weights on the meta device, which hold nothing; build it on a real one.")
    names = [name for name in file_names(folder, MEAN_FILE) if name != BASE_NAME]
    if ADAPTER_NAME in names:
        model = _load_adapter(folder, base_model, kwargs, base_kwargs or {})
    elif not names:
        raise PosteriorCheckpointError(
            f"{folder} holds no weights: neither model.safetensors nor {ADAPTER_NAME}. No other files are read."
        )
    elif base_model is not None:
        model = nn.Module.float(base_model)
        load_weights(model, folder)
    else:
        model = _load_whole(folder, StoredTensors(folder / name for name in names), kwargs)
    require_finite(model, folder)
    return model


def _load_whole(folder: Path, weights: StoredTensors, kwargs: dict[str, Any]) -> nn.Module:
    path = folder / "config.json"
    if not is_there(path) and (own := _own_module(folder)):
        raise PosteriorCheckpointError(f"{path} is missing: {own}")
    config = build_config(read_json(path), path, max(FEW, weights.numbers))
    model, missing = _build(config, weights, path, folder, kwargs)
    if missing:
        raise PosteriorCheckpointError(
            f"{folder} has no weights for {len(missing)} tensors of the {type(model).__name__} that config.json "
            f"describes, e.g. {missing[0]!r}. {remedy(path)}"
        )
    return model


def _build(
    config: PreTrainedConfig,
    weights: StoredTensors,
    path: Path,
    folder: Path,
    kwargs: dict[str, Any],
    packed: int = 2,
) -> tuple[PreTrainedModel, list[str]]:
    """
    Return the model that `config`, read from `path`, describes, and the names of its tensors that `weights` do not
    have.

    Args:
        folder: which may have settings for generation.
        packed: how many times the numbers that are stored it may have, and some: weights may be shared or quantised.
    """
    cls = _model_class(config, path)
    with reading(path):
        with without_network(path), torch.device("meta"), _no_larger_than(weights, path, packed):
            cls(config)
        state = dict(weights.read(weights.shapes))
        loaded: Any = cls.from_pretrained(None, config=config, state_dict=state, output_loading_info=True, **kwargs)
    model, info = loaded
    model.name_or_path = model.config.name_or_path = str(folder)
    if model.can_generate() and is_there(settings := folder / GENERATION_NAME):
        with reading(settings):
            model.generation_config = GenerationConfig.from_dict(read_json(settings))
    return model, sorted({*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])})


def _no_larger_than(weights: StoredTensors, path: Path, times: int = 2) -> Any:
    return at_most(times * weights.numbers + 10**7, 20 * len(weights.shapes) + 1000, path)


def _model_class(config: PreTrainedConfig, path: Path) -> type[PreTrainedModel]:
    """
    Return the class of transformers, or of our own, that `config.architectures` names; never code from the checkpoint.
    """
    with reading(path):
        name = config.architectures[0] if config.architectures else None
        homes = (transformers, own_models.koopa)
        found = next((getattr(home, name) for home in homes if name is not None and hasattr(home, name)), None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise PosteriorCheckpointError(
            f"{path} names the architecture {short(name)}, which transformers {transformers.__version__} does not "
            "have. Code from a checkpoint is never executed. If you have its class, build a model of it and give "
            "BayesianModel.from_pretrained(..., base_model=model)."
        )
    return found


def _load_adapter(
    folder: Path, base_model: nn.Module | None, kwargs: dict[str, Any], where: dict[str, Any]
) -> nn.Module:
    from peft import PeftModel, get_peft_model_state_dict

    path, contents = folder / "adapter_config.json", read_config(folder)
    values, record = read_json(path), base_record(contents, folder)
    weights = StoredTensors([folder / ADAPTER_NAME])
    with reading(path):
        config, is_exact = read_adapter_config(values, weights, path)
    if base_model is None:
        base_model = _load_base(folder, contents, values, record, kwargs, where)
    else:
        origin = _origin(values, record)
        advice = f"Give the one that it was trained on{f', {origin}' if origin else ''}, with the same settings."
        check_base(base_model, record, folder, "The base model given", advice)
    nn.Module.float(base_model)  # its own float() refuses a quantised model, most of which this leaves alone
    with reading(path), without_network(path), _no_larger_than(weights, path):
        if is_exact:
            only_stored_modules(config, base_model)
        model = PeftModel.from_pretrained(base_model, str(folder), config=config)
    missing = sorted(get_peft_model_state_dict(model, save_embedding_layers=False).keys() - weights.shapes.keys())
    if missing:  # of which PEFT only warns
        raise PosteriorCheckpointError(
            f"{folder / ADAPTER_NAME} has no weights for {len(missing)} tensors of the adapter that "
            f"adapter_config.json describes, e.g. {missing[0]!r}. {remedy(path)}"
        )
    restore_base(model, folder)
    return model


def _origin(adapter: dict[str, Any], record: BaseRecord | None) -> str:
    """Return what the adapter's base is called, as far as that is recorded."""
    name, commit = adapter.get("base_model_name_or_path"), record.commit if record is not None else None
    revision = commit or adapter.get("revision")
    return f"{short(name)}{f' at revision {short(revision)}' if revision else ''}" if name else ""


def _own_module(folder: Path) -> str:
    """Say what to do about a checkpoint of a module that is not one of transformers', if it says that it is."""
    name = read_config(folder).get("module")
    if name is None:
        return ""
    return (
        f"it is the checkpoint of {short(name)}, a module of its author's own, which only their code can build. Build "
        "one and give BayesianModel.from_pretrained(..., base_model=module): the weights are loaded into it."
    )


def _load_base(
    folder: Path,
    contents: dict[str, Any],
    adapter: dict[str, Any],
    record: BaseRecord | None,
    kwargs: dict[str, Any],
    where: dict[str, Any],
) -> nn.Module:
    """Load the model that an adapter was trained on, with its head's classes, rounded and quantised as it was."""
    path = folder / POSTERIOR_CONFIG_NAME
    values, name = contents.get("base_config"), adapter.get("base_model_name_or_path")
    if own := _own_module(folder):
        raise PosteriorCheckpointError(f"The base of the adapter in {folder} cannot be built: {own}")
    if values is not None and record is not None and not record.weights:  # all of it lies beside the adapter
        stored = stored_base(folder)
        config = build_config(values, path, max(FEW, stored.numbers))
        model, lost = _build_empty(config, stored, path, kwargs | {"dtype": config.dtype or torch.float32})
        check_base(model, record, folder, f"The base model in {folder}", remedy(folder / BASE_NAME), lost)
        return model
    if values is None or not name:
        raise PosteriorCheckpointError(f"{folder} does not say which model its adapter belongs to; {OWN_BASE}.")
    revision = adapter.get("revision") or "main"
    if not isinstance(name, str) or "://" in name or name.startswith(("//", "\\\\")) or ".." in str(revision):
        raise PosteriorCheckpointError(
            f"The adapter in {folder} names the base model {short(name)} at {short(revision)}, which is neither a "
            f"folder nor a repository of the Hub; {OWN_BASE}."
        )
    commit = record.commit if record is not None else None
    found, files = _fetch_recorded(folder, name, str(revision), commit, where)
    weights = StoredTensors(files)
    config = build_config(values, path, max(FEW, weights.numbers), quantised=True)
    kwargs = kwargs | {"dtype": config.dtype or torch.float32, "ignore_mismatched_sizes": True}
    if hasattr(config, "quantization_config") and not read_json(found / "config.json").get("quantization_config"):
        # It was quantised while loading; left in the configuration it would mean that its file is.
        kwargs = {"quantization_config": config.quantization_config} | kwargs
        del config.quantization_config
    model, lost = _build(config, weights, path, found, kwargs, packed=16)
    model.name_or_path = model.config.name_or_path = name
    advice = (
        "It may have been changed since. Load the model that the adapter was trained on, for instance by "
        "from_pretrained(..., revision=...), and give BayesianModel.from_pretrained(..., base_model=model)."
    )
    check_base(model, record, folder, f"The base model {short(name)} that is named", advice, lost)
    return model


def _fetch_recorded(
    folder: Path, name: str, revision: str, commit: str | None, where: dict[str, Any]
) -> tuple[Path, list[Path]]:
    """
    Fetch the base at the commit that it had in training, or, if that is not to be had, at the revision that is named.
    """
    if commit is not None and not os.path.isdir(name):
        try:
            return fetch_base(name, commit, where)
        except PosteriorCheckpointError as error:
            logger.warning(f"{error} The base model is looked for at {revision!r}.")
    try:
        return fetch_base(name, revision, where)
    except PosteriorCheckpointError as error:
        raise PosteriorCheckpointError(
            f"The base model that the adapter in {folder} names cannot be read: {error} To put it on another, "
            f"{OWN_BASE}."
        ) from error


def _build_empty(
    config: PreTrainedConfig, weights: StoredTensors, path: Path, kwargs: dict[str, Any]
) -> tuple[PreTrainedModel, list[str]]:
    """The model that `config`, read from `path`, describes, of weights in memory, and the names of those it lacks."""
    cls = _model_class(config, path)
    with reading(path):
        with without_network(path), torch.device("meta"), _no_larger_than(weights, path):
            keys = keys_of(cls(config), weights.shapes)
        # As they would be in a file of their own, so that transformers does not report all of them as missing.
        state = {keys.get(name, name): tensor for name, tensor in weights.read(weights.shapes)}
        built: Any = cls.from_pretrained(None, config=config, state_dict=state, output_loading_info=True, **kwargs)
    model, info = built
    model.name_or_path = model.config.name_or_path = ""
    return model, sorted(info["missing_keys"])
