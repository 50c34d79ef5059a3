"""
Reading what a stranger may have written: JSON and safetensors alone, checked before memory is allocated for it.

Whatever is wrong with a file becomes a `PosteriorCheckpointError` that names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from ..errors import PosteriorCheckpointError

__all__ = ["StoredTensors", "at_most", "read_json", "reading", "sha256"]

_MAX_JSON_BYTES = 16 << 20
_AGAIN = "Fetch or save the checkpoint again."


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What goes wrong inside the `with` is the fault of the file at `path`; a full disk or memory is not."""
    try:
        yield
    except (PosteriorCheckpointError, OSError, MemoryError, ImportError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise PosteriorCheckpointError(
            f"{path} does not describe a model that can be built ({type(error).__name__}: {_short(error)}). {_AGAIN}"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """
    The object in a JSON file.

    Raises:
        PosteriorCheckpointError: larger than 16 MB, no JSON, or no object.
    """
    try:
        if (size := path.stat().st_size) > _MAX_JSON_BYTES:
            raise ValueError(f"it has {size:,} bytes, where at most {_MAX_JSON_BYTES:,} can be right")
        contents = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
        if not isinstance(contents, dict):
            raise ValueError(f"it holds a {type(contents).__name__} in place of an object")
    except (ValueError, RecursionError) as error:
        raise PosteriorCheckpointError(f"{path} cannot be read as JSON ({_short(error)}). {_AGAIN}") from error
    return contents


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


class StoredTensors:
    """
    The tensors in safetensors files, whose shapes are known before any is read.

    Args:
        paths: the files, which must not share a key.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for path in paths:
            with _tensors_of(path) as file:
                for key in file.keys():  # noqa: SIM118 (a handle, not a dict)
                    if key in self._paths:
                        raise PosteriorCheckpointError(f"{path} repeats {key!r} of {self._paths[key].name}. {_AGAIN}")
                    self._paths[key], self.shapes[key] = path, tuple(file.get_slice(key).get_shape())

    def read(self, keys: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Each key with its tensor, one after the other."""
        by_path: dict[Path, list[str]] = {}
        for key in keys:
            by_path.setdefault(self._paths[key], []).append(key)
        for path, own in by_path.items():
            with _tensors_of(path) as file:
                for key in own:
                    yield key, file.get_tensor(key)


@contextmanager
def _tensors_of(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise PosteriorCheckpointError(f"{path} is missing. {_AGAIN}")
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, ValueError, TypeError, RuntimeError, OSError) as error:
        if isinstance(error, PosteriorCheckpointError):
            raise
        raise PosteriorCheckpointError(
            f"{path} cannot be read ({_short(error)}); it is truncated or damaged. {_AGAIN}"
        ) from error


@contextmanager
def at_most(numbers: float) -> Iterator[None]:
    """
    Modules built inside the `with` may have so many weights and buffers in all; best on the meta device.

    Raises:
        PosteriorCheckpointError: they have more.
    """
    total, tensors = 0, 0

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal total, tensors
        if tensor is not None:
            total += tensor.numel()
            tensors += 1
        if total > numbers or tensors > _MAX_TENSORS:
            raise PosteriorCheckpointError(
                f"config.json describes a model of more than {min(total, int(numbers)):,} numbers in {tensors:,} "
                "tensors, which the weights beside it cannot fill. " + _AGAIN
            )

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


_MAX_TENSORS = 1_000_000


def sha256(path: Path) -> str:
    """Of a file's contents, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else text[:300] + "…"
