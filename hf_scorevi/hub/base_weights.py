"""
The base of an adapter: what it was, and what of it must be stored because its checkpoint cannot give it back.

An adapter's own files name a base model, but that may have moved on, lack a head, or have been changed. So the
weights that it does give back are recorded by a checksum each, and all others stored beside the adapter.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from torch import Tensor, nn
from transformers.utils import logging

from ..errors import PosteriorCheckpointError
from ..heads import base_of
from ..posterior import local
from .base_files import COMMIT, bases_at_hand
from .checksums import checksum
from .keys import keys_of
from .untrusted import StoredTensors

__all__ = ["BaseRecord", "Fingerprint", "base_tensors", "is_packed", "new_tensors", "put_", "split_base"]

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Fingerprint:
    """
    What is recorded of one tensor, to know it again.

    Attributes:
        dtype: as torch names it.
        shape: of what is in memory, packed if it is quantised.
        checksum: `None` if it is quantised, which another machine may round otherwise.
    """

    dtype: str
    shape: tuple[int, ...]
    checksum: str | None

    @classmethod
    def of(cls, tensor: Tensor) -> Fingerprint:
        dtype = str(tensor.dtype).removeprefix("torch.")
        return cls(dtype, tuple(tensor.shape), None if is_packed(tensor) else checksum(tensor))

    def matches(self, tensor: Tensor) -> bool | None:
        """
        Return whether `tensor` has these values, once it is rounded as they were; `None` where that is not known,
        since one of the two is quantised, or `tensor` is rounded more coarsely.
        """
        if self.checksum is None or is_packed(tensor):
            return None
        dtype = getattr(torch, self.dtype)
        if tuple(tensor.shape) != self.shape or tensor.is_floating_point() != dtype.is_floating_point:
            return False
        if checksum(tensor.to(dtype)) == self.checksum:
            return True
        return None if tensor.is_floating_point() and torch.finfo(tensor.dtype).eps > torch.finfo(dtype).eps else False


@dataclass
class BaseRecord:
    """
    Attributes:
        commit: of the base's repository on the Hub, if it came from there.
        weights: what its checkpoint gives back, by the names of its own `state_dict`.
    """

    commit: str | None = None
    weights: dict[str, Fingerprint] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        weights = {name: [own.dtype, list(own.shape), own.checksum] for name, own in self.weights.items()}
        return {"commit": self.commit, "weights": weights}

    @classmethod
    def from_dict(cls, values: Any) -> BaseRecord:
        """
        Undo `to_dict`, of what anybody may have written.

        Raises:
            ValueError, TypeError, AttributeError, KeyError: it is no record.
        """
        commit = values["commit"]
        if not (commit is None or COMMIT.fullmatch(commit)):
            raise ValueError("base.commit must be that of a repository")
        weights = {}
        for name, (dtype, shape, own) in values["weights"].items():
            known = isinstance(dtype, str) and isinstance(getattr(torch, dtype, None), torch.dtype)
            if not (known and all(type(size) is int for size in shape) and (own is None or isinstance(own, str))):
                raise ValueError("base.weights must have a dtype, a shape and a checksum for each")
            weights[name] = Fingerprint(dtype, tuple(shape), own)
        return cls(commit, weights)


def is_packed(tensor: Tensor) -> bool:
    """Return whether this weight is quantised."""
    return isinstance(tensor, nn.Parameter) and (not tensor.is_floating_point() or tensor.element_size() < 2)


def base_tensors(model: nn.Module, weights: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """
    Parameters and persistent buffers of the base of `model`, which may have an adapter, by their names without it;
    without those that the adapter has a copy of in its own file.

    Args:
        weights: the whole `model.state_dict()`, where the model has but a part of them.
    """
    from peft import PeftModel

    replaced: set[int] = set()
    if isinstance(model, PeftModel):
        named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        replaced = {id(named[name]) for name in keys_of(model, {name: t.shape for name, t in named.items()})}
    prefix = next((name + "." for name, m in model.named_modules() if name and m is base_of(model)), "")
    return {
        name: (weights or {}).get(prefix + path, tensor)
        for name, path, tensor in _walk(base_of(model))
        if id(tensor) not in replaced
    }


def _walk(module: nn.Module, name: str = "", path: str = "") -> Iterator[tuple[str, str, Tensor]]:
    """Yield each tensor of a base with its name, that without what PEFT has put around its modules first."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper

    if isinstance(module, ModulesToSaveWrapper):  # the copy beside it is used and stored
        return
    if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper):
        inner = "original_module" if isinstance(module, AuxiliaryTrainingWrapper) else "base_layer"
        yield from _walk(getattr(module, inner), name, f"{path}{inner}.")
        return
    for key, tensor in [*module._parameters.items(), *module._buffers.items()]:
        if tensor is not None and key not in module._non_persistent_buffers_set:
            yield name + key, path + key, tensor
    for key, child in module._modules.items():
        if child is not None:
            yield from _walk(child, f"{name}{key}.", f"{path}{key}.")


@torch.no_grad()
def put_(tensor: Tensor, value: Tensor) -> None:
    """Let a weight be `value`; one that FSDP2 has split takes its part of it. All processes call this."""
    if local(tensor) is not tensor:
        from torch.distributed.tensor import distribute_tensor

        value = distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)  # type: ignore[attr-defined]
    tensor.copy_(value)


def new_tensors(model: nn.Module) -> dict[str, Tensor]:
    """
    Return those parameters of an adapter's base that its checkpoint did not have, if transformers has read it from
    one: a new pooler or head, whose numbers are random.
    """
    tensors = base_tensors(model)
    if not any(map(_was_read, tensors.values())):
        return {}
    return {name: t for name, t in tensors.items() if isinstance(t, nn.Parameter) and not _was_read(t)}


def split_base(
    model: nn.Module, known: BaseRecord | None = None, weights: Mapping[str, Tensor] | None = None
) -> tuple[BaseRecord, dict[str, Tensor]]:
    """
    Return the record of an adapter's base, and those of its tensors that its checkpoint does not restore.

    A weight that is as it was in `known` needs no second look. Others are compared with the base's files, if this
    machine has them; if they are somewhere in the Hub, what transformers has read is taken to be there.

    Args:
        known: what was found at an earlier save, or loaded.
        weights: the whole `model.state_dict()`, where the model has but a part of them.
    """
    fresh, known = known is None, known or BaseRecord()
    tensors = _distinct(base_tensors(model, weights))
    given = {
        name: own
        for name, own in known.weights.items()
        if name in tensors and (own.matches(tensors[name]) or _both_packed(own, tensors[name]))
    }
    rest = {name: t for name, t in tensors.items() if name not in given}
    commit = known.commit
    if rest:
        commit, found, elsewhere = _compared(model, rest, known.commit)
        for name, tensor in rest.items():
            is_there = found.get(name)
            if is_there is None:  # what transformers has read since may be from beside an adapter
                is_there = fresh and elsewhere and _was_read(tensor)
            if is_there or is_packed(tensor):
                given[name] = Fingerprint.of(tensor)
    changed = {name: t for name, t in tensors.items() if name not in given}
    return BaseRecord(commit, given), changed


def _compared(
    model: nn.Module, tensors: Mapping[str, Tensor], commit: str | None
) -> tuple[str | None, dict[str, bool], bool]:
    """
    The commit of the base's files on this machine that fit best; whether these have each tensor, as far as they have
    one of its name; and whether a tensor may come from there all the same, under another name, or with none at hand
    from the Hub.
    """
    config: Any = model.peft_config["default"]  # type: ignore[union-attr,index]
    name, base = config.base_model_name_or_path, base_of(model)
    if not name or not _is_place(name):
        return commit, {}, False
    dtype = getattr(getattr(base, "config", None), "dtype", None) or torch.float32
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    keys, best = keys_of(base, {key: t.shape for key, t in tensors.items()}), None
    for candidate, files in _readable(bases_at_hand(name, commit or config.revision)):
        found = {}
        for key, tensor in tensors.items():
            stored = _stored_as(keys.get(key, key), files.shapes, getattr(base, "base_model_prefix", ""))
            if stored is not None:
                found[key] = _is_equal(tensor, next(files.read([stored]))[1], dtype)
        if best is None or sum(found.values()) > sum(best[1].values()):
            best = candidate, found
        if all(found.values()):
            break
    return (*best, True) if best is not None else (commit, {}, not os.path.isdir(name))


def _is_place(name: str) -> bool:
    """Return whether this is a folder, or may be the name of a repository."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return os.path.isdir(name)
    return True


def _readable(bases: Iterable[tuple[str | None, list[Path]]]) -> Iterator[tuple[str | None, StoredTensors]]:
    try:
        for commit, files in bases:
            yield commit, StoredTensors(files)
    except (PosteriorCheckpointError, OSError) as error:
        logger.warning(f"The adapter's base could not be compared with its files: {error}")


def _stored_as(key: str, stored: Mapping[str, Any], prefix: str) -> str | None:
    """Return the name in a base's files, which have the prefix of a model with a head, or of one without it."""
    start = prefix + "."
    candidates = (key, key.removeprefix(start), start + key) if prefix else (key,)
    return next((candidate for candidate in candidates if candidate in stored), None)


def _is_equal(tensor: Tensor, stored: Tensor, dtype: torch.dtype) -> bool:
    """Return whether loading in `dtype` gives `tensor`."""
    if is_packed(tensor):
        return True
    if tensor.shape != stored.shape:
        return False
    stored = stored.to(tensor.device)
    ways = (stored.to(dtype), stored) if stored.is_floating_point() else (stored,)
    return any(torch.equal(way.to(tensor.dtype), tensor) for way in ways)


def _distinct(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return each tensor once, by the first of its names."""
    first = {id(t): name for name, t in reversed(list(tensors.items()))}
    return {name: t for name, t in tensors.items() if first[id(t)] == name}


def _both_packed(own: Fingerprint, tensor: Tensor) -> bool:
    return own.checksum is None and is_packed(tensor) and own.shape == tuple(tensor.shape)


def _was_read(tensor: Tensor) -> bool:
    return getattr(tensor, "_is_hf_initialized", False)
