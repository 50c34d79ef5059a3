"""Whether a base is the one that an adapter was trained on, and putting into it what its own checkpoint lacks."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from torch import nn

from ..errors import PosteriorCheckpointError
from ..heads import base_of
from ..posterior import local
from .base_weights import BaseRecord, base_tensors, is_packed, put_
from .checkpoint import BASE_NAME
from .files import remedy
from .keys import keys_of
from .loading import ADAPTER_NAME, base_record, read_config
from .untrusted import StoredTensors, short

__all__ = ["check_adapter", "check_base", "load_base_weights", "restore_base", "stored_base"]


_SAME = "Put an adapter of the same settings on the base that it was trained on."


def stored_base(folder: Path) -> StoredTensors:
    """Return the weights of an adapter's base that lie beside the adapter in `folder`; there may be none."""
    path = folder / BASE_NAME
    return StoredTensors([path] if path.is_file() else [])


def check_base(
    model: nn.Module,
    record: BaseRecord | None,
    folder: Path,
    said: str,
    advice: str,
    lost: Collection[str] = (),
) -> None:
    """
    Refuse a base that is not the one that the adapter in `folder` was trained on.

    Args:
        model: the base, in the precision that it was loaded in.
        record: what it was; `None` if that is not known (up to format 1.3).
        said: what the base is called in a message.
        advice: what to do about one that does not fit.
        lost: names of those of its weights that its checkpoint did not have.

    Raises:
        PosteriorCheckpointError: its weights have other names, shapes or values.
    """
    tensors, extra = base_tensors(model), stored_base(folder).shapes
    replaced = _replaced(folder)
    for name in sorted(tensors.keys() & replaced.keys()):
        if tuple(tensors[name].shape) != replaced[name] and not is_packed(tensors[name]) and name not in lost:
            raise PosteriorCheckpointError(
                f"{said} does not fit the adapter in {folder}: its {short(name)} has the shape "
                f"{tuple(tensors[name].shape)}, the adapter's {replaced[name]}{_classes(model, folder)}. {advice}"
            )
    if gone := sorted(set(lost) & tensors.keys() - extra.keys() - replaced.keys()):
        raise PosteriorCheckpointError(
            f"{said} has no weights of the right shape for {len(gone)} tensors that the adapter in {folder} needs, "
            f"e.g. {short(gone[0])}, and they are not stored with the adapter. {advice}"
        )
    if record is None:
        return
    shapes = {name: own.shape for name, own in record.weights.items()} | extra
    known = {id(tensors[name]) for name in tensors.keys() & shapes.keys()}
    for problem, names in (
        ("lacks", shapes.keys() - tensors.keys()),
        ("has unexpected", {n for n, t in tensors.items() if n not in replaced and id(t) not in known}),
    ):
        if names:
            raise PosteriorCheckpointError(
                f"{said} is not the one that the adapter in {folder} was trained on: it {problem} {len(names)} of its "
                f"tensors, e.g. {short(min(names))}. {advice}"
            )
    packed = {name for name, own in record.weights.items() if own.checksum is None}
    for name, shape in sorted(shapes.items()):
        if tuple(tensors[name].shape) != shape and not (name in packed or is_packed(tensors[name])):
            raise PosteriorCheckpointError(
                f"{said} is not the one that the adapter in {folder} was trained on: its {short(name)} has the shape "
                f"{tuple(tensors[name].shape)}, not {shape}. {advice}"
            )
    differing = [
        name
        for name, own in record.weights.items()
        if name not in extra and name not in lost and own.matches(tensors[name]) is False
    ]
    if differing:
        raise PosteriorCheckpointError(
            f"{said} is not the one that the adapter in {folder} was trained on: {len(differing)} of its "
            f"{len(tensors)} tensors have other values, e.g. {short(differing[0])}. {advice}"
        )


def restore_base(model: nn.Module, folder: Path) -> None:
    """
    Put the weights of the base that are stored in `folder` into that of `model`, which has the adapter.

    Raises:
        PosteriorCheckpointError: they do not fit.
    """
    stored, tensors = stored_base(folder), base_tensors(model)
    path = folder / BASE_NAME
    for name, shape in stored.shapes.items():
        if name not in tensors:
            raise PosteriorCheckpointError(f"{path} has {short(name)}, which the base does not have. {remedy(path)}")
        if tuple(tensors[name].shape) != shape or is_packed(tensors[name]):
            raise PosteriorCheckpointError(
                f"{path} has {short(name)} of shape {shape}, where the base has another shape, or a quantised weight. "
                "Give a base of the same architecture that is not quantised there."
            )
    for name, tensor in stored.read(stored.shapes):
        put_(tensors[name], tensor)


def check_adapter(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """
    Raise `PosteriorCheckpointError` if the adapter in `folder` is not of the names and shapes of that of `model`.
    """
    folder = Path(folder)
    shapes = {name: tuple(t.shape) for name, t in [*model.named_parameters(), *model.named_buffers()]}
    own = {key: shapes[name] for name, key in keys_of(model, shapes).items()}
    stored = StoredTensors([folder / ADAPTER_NAME]).shapes
    for key, shape in own.items():
        if stored.get(key) != shape:
            found = f"the shape {stored[key]}" if key in stored else "none"
            raise PosteriorCheckpointError(
                f"The adapter in {folder} is another than this model's: its {short(key)} has {found}, the model's "
                f"the shape {shape}{_classes(model, folder)}. {_SAME}"
            )


def load_base_weights(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """
    Make the base of `model`, whose adapter was just loaded from `folder`, the one that this adapter belongs to.

    Raises:
        PosteriorCheckpointError: it is another.
    """
    folder = Path(folder)
    if all(local(t) is t for t in base_tensors(model).values()):
        check_base(model, base_record(read_config(folder), folder), folder, "The base of this model", _SAME)
    restore_base(model, folder)


def _replaced(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of a base that the adapter has a copy of, by their names in it."""
    found = {}
    for key, shape in StoredTensors([folder / ADAPTER_NAME]).shapes.items():
        parts = key.removeprefix("base_model.model.").split(".")
        found[".".join(part for part in parts if part not in ("base_layer", "original_module"))] = shape
    return found


def _classes(model: nn.Module, folder: Path) -> str:
    """Say which classes a base has, and which an adapter's head, if they are other ones."""
    recorded = read_config(folder).get("base_config")
    labels = recorded.get("id2label") if isinstance(recorded, Mapping) else None
    own = getattr(getattr(base_of(model), "config", None), "num_labels", None)
    if not isinstance(labels, Mapping) or own is None or own == len(labels):
        return ""
    return f" (it has {own} classes, the adapter's head {len(labels)})"
