"""Detection of data that were seen before, from a few bytes."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from torch import Tensor

from ..json_values import json_list, short

__all__ = ["Sketch", "example_hashes"]

_SIZE = 64
_HASH = re.compile(r"[0-9a-f]{16}")


def example_hashes(batch: Mapping[str, Any]) -> list[str]:
    """
    Return a hash of each example's inputs, 16 hexadecimal digits.

    Args:
        batch: tensors of shape (B, ...) by name, as the model's forward takes them, without the labels.
    """
    tensors = [batch[name].detach().cpu().contiguous() for name in sorted(batch) if isinstance(batch[name], Tensor)]
    tensors = [tensor for tensor in tensors if tensor.dim() > 0]
    if not tensors:
        return []
    return [
        blake2b(b"".join(_bytes(tensor[i]) for tensor in tensors), digest_size=8).hexdigest()
        for i in range(len(tensors[0]))
    ]


def _bytes(row: Tensor) -> bytes:
    return row.float().numpy().tobytes() if row.is_floating_point() else row.numpy().tobytes()


class Sketch:
    """
    The 64 smallest hashes of a set of examples: another set that shares a fraction f of them is noticed with
    probability 1 − (1 − f)^64, and two that share nothing never are.

    Source: Bar-Yossef et al., "Counting distinct elements in a data stream", RANDOM 2002 (k minimum values).
    """

    def __init__(self, hashes: Iterable[str] = ()) -> None:
        self._hashes = frozenset(heapq.nsmallest(_SIZE, set(hashes)))

    def knows(self, hashes: Iterable[str]) -> bool:
        """Return whether one of `hashes` is among those that were kept."""
        return not self._hashes.isdisjoint(hashes)

    def to_list(self) -> list[str]:
        """Return the hashes as JSON values."""
        return sorted(self._hashes)

    @classmethod
    def from_list(cls, values: Any) -> Sketch:
        """
        Build a sketch from the result of `to_list`, or from JSON of any origin.

        Raises:
            ValueError: no such list.
        """
        for value in json_list("seen", values, most=_SIZE):
            if not (isinstance(value, str) and _HASH.fullmatch(value)):
                raise ValueError(f"seen must have hashes of 16 hexadecimal digits, not {short(value, 60)}")
        return cls(values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self._hashes == other._hashes

    def __hash__(self) -> int:
        return hash(self._hashes)
