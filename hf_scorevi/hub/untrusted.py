"""
Reading what a stranger may have written: JSON and safetensors alone, checked before memory is allocated for it.

Whatever is wrong with a file becomes a `PosteriorCheckpointError` that names it.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from ..errors import PosteriorCheckpointError
from ..json_values import short
from .files import MAX_TEXT_BYTES, opened, read_bytes, remedy

__all__ = ["StoredTensors", "at_most", "read_json", "reading", "sha256", "short"]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Let what goes wrong inside the `with` be the fault of the file at `path`; a failing disk is not."""
    try:
        yield
    except (PosteriorCheckpointError, MemoryError, ImportError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's own; libraries raise it without
            raise
        raise PosteriorCheckpointError(
            f"{path} does not describe a model that can be built ({type(error).__name__}: {short(error)}). "
            + remedy(path)
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """
    Return the object in a JSON file. Numbers are of 64 bits or fewer, and no key is there twice.

    Raises:
        PosteriorCheckpointError: missing, no regular file, larger than 16 MB, no JSON, or no object.
    """
    try:
        contents = json.loads(
            read_bytes(path).decode("utf-8"),
            parse_constant=_refuse_number,
            parse_int=_whole_number,
            parse_float=_finite_number,
            object_pairs_hook=_object,
        )
        if not isinstance(contents, dict):
            raise ValueError(f"it holds a {type(contents).__name__} in place of an object")
    except PosteriorCheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise PosteriorCheckpointError(f"{path} cannot be read as JSON ({short(error)}). {remedy(path)}") from error
    return contents


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is no number of 64 bits")


def _whole_number(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        _refuse_number(text)
    return int(text)


def _finite_number(text: str) -> float:
    return number if math.isfinite(number := float(text)) else _refuse_number(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(contents := dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return contents


class StoredTensors:
    """
    The tensors in safetensors files, whose shapes are known before any is read.

    Args:
        paths: the files, which must not share a key.

    Attributes:
        shapes: of each tensor, by key.
        dtypes: likewise, as safetensors names them.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, str] = {}
        for path in paths:
            with _tensors_of(path) as file:
                for key in file.keys():  # noqa: SIM118 (a handle, not a dict)
                    if key in self._paths:
                        raise PosteriorCheckpointError(
                            f"{path} repeats {short(key)} of {self._paths[key].name}. {remedy(path)}"
                        )
                    described = file.get_slice(key)
                    self._paths[key] = path
                    self.shapes[key], self.dtypes[key] = tuple(described.get_shape()), described.get_dtype()

    @property
    def numbers(self) -> int:
        """How many numbers all tensors have together."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def read(self, keys: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Yield each key with its tensor, one after the other."""
        by_path: dict[Path, list[str]] = {}
        for key in keys:
            by_path.setdefault(self._paths[key], []).append(key)
        for path, own in by_path.items():
            with _tensors_of(path) as file:
                for key in own:
                    yield key, file.get_tensor(key)


@contextmanager
def _tensors_of(path: Path) -> Iterator[Any]:
    try:
        with opened(path) as plain:
            header = int.from_bytes(plain.read(8), "little")
        if header < 2:  # not even of a file without tensors
            raise ValueError("it has no header")
        if header > MAX_TEXT_BYTES:
            raise ValueError(f"its header has {header:,} bytes, where at most {MAX_TEXT_BYTES:,} can be right")
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, ValueError, TypeError, RuntimeError, OSError) as error:
        if isinstance(error, PosteriorCheckpointError):
            raise
        raise PosteriorCheckpointError(
            f"{path} cannot be read ({short(error)}); it is truncated or damaged. {remedy(path)}"
        ) from error


@contextmanager
def at_most(numbers: int, tensors: int, path: Path) -> Iterator[None]:
    """
    Let modules built inside the `with` have so many weights and buffers, and numbers in all of them; best on the meta
    device.

    Args:
        path: the file that describes them.

    Raises:
        PosteriorCheckpointError: they have more.
    """
    total, count, thread = 0, 0, threading.get_ident()

    def add(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal total, count
        if tensor is not None and threading.get_ident() == thread:
            total += tensor.numel()
            count += 1
        if total > numbers or count > tensors:
            raise PosteriorCheckpointError(
                f"{path} describes a model of more than {min(total, numbers):,} numbers in {min(count, tensors):,} "
                f"tensors, which the stored weights cannot fill. {remedy(path)}"
            )

    hooks = [register_module_parameter_registration_hook(add), register_module_buffer_registration_hook(add)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def sha256(path: Path) -> str:
    """Return that of a file's contents, in hexadecimal digits."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
