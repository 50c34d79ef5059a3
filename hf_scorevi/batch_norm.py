"""
Batch normalisation's running statistics belong to the weights they were gathered under.

Training gathers them under draws; the mean needs its own, and so does each draw whose predictions are to be its own.
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
    """Whether any layer keeps running statistics."""
    return bool(_layers(model))


class RunningStatistics:
    """The running statistics in `model` as they were when this was made."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [buffer for layer in _layers(model) for buffer in layer.buffers(recurse=False)]
        self._values = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def restore(self, model: nn.Module | None = None) -> None:
        """Put them back, or into a copy of the model."""
        buffers = self._buffers if model is None else RunningStatistics(model)._buffers
        for buffer, value in zip(buffers, self._values, strict=True):
            buffer.copy_(value)


@contextmanager
def kept_running_statistics(model: nn.Module) -> Iterator[None]:
    """After the `with`, whatever happens inside, the running statistics are what they were before it."""
    before = RunningStatistics(model)
    try:
        yield
    finally:
        try:
            before.restore()
        finally:
            before.restore()  # should that have been interrupted


@contextmanager
def frozen_running_statistics(model: nn.Module) -> Iterator[None]:
    """
    Normalise by the batch but leave the running statistics alone: the second pass over a batch must not count twice.
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
    Gather the running statistics anew, under the weights in place and without dropout: averages over `batches`, which
    are arguments of the model's forward. Layers that a caller keeps in evaluation mode stay as they are.

    Raises:
        ValueError: there is no batch. The statistics are then, as after any error, those from before.
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
