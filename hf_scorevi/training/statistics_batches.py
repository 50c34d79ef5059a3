"""Training batches from which batch normalisation gathers its statistics anew."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset

__all__ = ["spread_batches"]


def spread_batches(
    dataset: Dataset, collate: Callable[..., Any], batch_size: int, number: int
) -> Iterator[dict[str, Any]]:
    """
    At most `number` batches, spread evenly over `dataset` (its first ones if it has no length): the same whenever they
    are asked for, in every process, and with no trace in the global random states, whatever augmentation draws.
    """
    sized = hasattr(dataset, "__len__")
    if sized:
        step = max(1, len(dataset) // (number * batch_size))  # type: ignore[arg-type]
        dataset = Subset(dataset, range(0, len(dataset), step))  # type: ignore[arg-type]
    # A last batch of one example would have no variance.
    drop_last = not sized or len(dataset) > batch_size  # type: ignore[arg-type]
    loader = DataLoader(dataset, batch_size, collate_fn=collate, drop_last=drop_last, generator=torch.Generator())
    with _own_random_state():
        yield from islice(loader, number)


@contextmanager
def _own_random_state() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(0)
            np.random.seed(0)
            torch.default_generator.manual_seed(0)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
