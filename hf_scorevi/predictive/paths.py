"""Sample paths of forecasters whose head models a distribution: what their `generate` draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["generated_paths"]


@torch.no_grad()
def generated_paths(model: nn.Module, batch: Mapping[str, Any], paths: int | None, seed: int) -> Tensor:
    """
    Sample paths of the distribution of a transformers forecaster, under the weights in place.

    Args:
        batch: arguments of its `generate`.
        paths: for each window; default: `num_parallel_samples` of its configuration.
        seed: of the samples; the global random state stays as it is.

    Returns:
        (paths, B, H, C), in the units of `past_values`.
    """
    device = next(model.parameters()).device
    with _parallel_samples(model, paths), _seeded(device, seed):
        sequences = model.generate(**batch).sequences  # type: ignore[operator]
    sequences = sequences.transpose(0, 1)
    return sequences if sequences.dim() == 4 else sequences.unsqueeze(-1)


@contextmanager
def _parallel_samples(model: nn.Module, number: int | None) -> Iterator[None]:
    """PatchTSMixer reads it from the model, the others from the configuration."""
    if number is None:
        yield
        return
    holders: list[Any] = [model.config, *([model] if hasattr(model, "num_parallel_samples") else [])]
    before = [holder.num_parallel_samples for holder in holders]
    try:
        for holder in holders:
            holder.num_parallel_samples = number
        yield
    finally:
        for holder, value in zip(holders, before, strict=True):
            holder.num_parallel_samples = value


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
        yield
