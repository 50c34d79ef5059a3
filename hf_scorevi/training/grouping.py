"""Evaluation batches by groups that share each posterior draw."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

__all__ = ["GroupedBatches"]


class GroupedBatches:
    """
    Yield the batches of a loader one by one, after fetching a group of them ahead.

    Accelerate's loaders know whether the batch they gave last is the last of all, and `gather_for_metrics` cuts off
    what was repeated to fill it; while batches are handed out that were fetched ahead, the loader says that of each.

    Args:
        loader: the loader; all its attributes are this object's too.
        size: batches in a group, at most. The same in all processes, which take turns at collective operations.
        most_bytes: size of a group's tensors, at most, if the next batch is no larger than the last.
        largest: returns the largest of a number in all processes, so that they group their batches alike.

    Attributes:
        group: the batches that were fetched together, of which the one that was yielded last is one.
    """

    def __init__(
        self, loader: DataLoader, size: int, most_bytes: int = 1 << 28, largest: Callable[[int], int] = lambda n: n
    ) -> None:
        self._loader, self._size, self._most_bytes, self._largest = loader, size, most_bytes, largest
        self.group: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        knows_its_end = hasattr(self._loader, "end_of_dataloader")
        ended = False
        while not ended:
            self.group = []
            held = following = 0
            while len(self.group) < self._size and held + following <= self._most_bytes and not ended:
                try:
                    self.group.append(next(batches))
                except StopIteration:
                    ended = True
                # Asked for more, an accelerate loader would take itself for finished before its last batch is used.
                ended = ended or (knows_its_end and self._loader.end_of_dataloader)  # type: ignore[attr-defined]
                if not ended and self._size > 1:
                    following = self._largest(_num_bytes(self.group[-1]))
                    held += following
            for i, batch in enumerate(self.group):
                if knows_its_end:
                    self._loader.end_of_dataloader = ended and i == len(self.group) - 1  # type: ignore[attr-defined]
                yield batch
        self.group = []
        next(batches, None)  # which finishes the loader


def _num_bytes(batch: Any) -> int:
    """Return the size of the tensors in a batch."""
    if isinstance(batch, Tensor):
        return batch.nbytes
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    return sum(map(_num_bytes, batch)) if isinstance(batch, list | tuple) else 0
