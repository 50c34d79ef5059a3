"""
Running statistics of batch normalisation, which belong to the weights that they were computed with.

Training computes them with drawn weights. The mean needs statistics of its own, and so does each draw for exact
predictions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = [
    "RunningStatistics",
    "frozen_running_statistics",
    "has_running_statistics",
    "kept_running_statistics",
    "refresh_running_statistics",
]


def has_running_statistics(model: nn.Module) -> bool:
    """Return whether any layer keeps running statistics."""
    return bool(_layers(model))


class RunningStatistics:
    """The running statistics of `model`, copied when this object was made."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [buffer for layer in _layers(model) for buffer in layer.buffers(recurse=False)]
        self._values = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def restore(self, model: nn.Module | None = None) -> None:
        """Copy them back into the model, or into a copy of the model."""
        buffers = self._buffers if model is None else RunningStatistics(model)._buffers
        for buffer, value in zip(buffers, self._values, strict=True):
            buffer.copy_(value)


@contextmanager
def kept_running_statistics(model: nn.Module) -> Iterator[None]:
    """Restore the running statistics when the `with` block ends, whatever happened inside."""
    before = RunningStatistics(model)
    try:
        yield
    finally:
        try:
            before.restore()
        finally:
            before.restore()  # again, in case the first was interrupted


@contextmanager
def frozen_running_statistics(model: nn.Module) -> Iterator[None]:
    """
    Normalise by the batch without changing the running statistics: for a second pass over a batch, which must not
    count twice.
    """
    layers = _layers(model)
    momenta = [m.momentum for m in layers]
    counts = [None if m.num_batches_tracked is None else m.num_batches_tracked.clone() for m in layers]

    def restore() -> None:
        for m, momentum, count in zip(layers, momenta, counts, strict=True):
            m.momentum = momentum
            if count is not None and m.num_batches_tracked is not None:
                m.num_batches_tracked.copy_(count)

    try:
        for m in layers:
            m.momentum = 0.0
        yield
    finally:
        try:
            restore()
        finally:
            restore()  # should that have been interrupted


@torch.no_grad()
def refresh_running_statistics(model: nn.Module, batches: Iterable[Mapping[str, Any]]) -> None:
    """
    Compute the running statistics anew for the present weights, without dropout, as averages over `batches`, which are
    arguments of the model's forward. Layers that a caller keeps in evaluation mode are not changed.

    Raises:
        ValueError: there is no batch. After this or any other error the statistics are those from before.
    """
    before, modes = RunningStatistics(model), {m: m.training for m in model.modules()}
    model.train()
    layers = [m for m in _layers(model) if m.training]
    momenta = [m.momentum for m in layers]
    model.eval()
    seen = 0
    try:
        if not layers:
            return
        for m in layers:
            m.reset_running_stats()
            m.momentum = None  # an average of all, not an exponential one
            m.train()
        for batch in batches:
            model(**batch)
            seen += 1
        if not seen:
            raise ValueError("Running statistics need at least one batch to be gathered from.")
    except BaseException:
        before.restore()
        raise
    finally:
        for m, momentum in zip(layers, momenta, strict=True):
            m.momentum = momentum
        for module, training in modes.items():
            module.training = training


def _layers(model: nn.Module) -> list[_BatchNorm]:
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and isinstance(m.running_mean, Tensor)]
