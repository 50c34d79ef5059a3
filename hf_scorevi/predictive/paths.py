"""Sample paths of forecasters whose head models a distribution, drawn by their `generate`."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..random_state import preserved_random_state

# `generate` draws from the global random state, which all threads share.
_GLOBAL_STATE = threading.Lock()

__all__ = ["generated_paths"]


@torch.no_grad()
def generated_paths(model: nn.Module, batch: Mapping[str, Any], paths: int | None, seed: int) -> Tensor:
    """
    Draw sample paths from the distribution of a transformers forecaster, with its present weights.

    Args:
        model: which no other thread uses, since `paths` is set in it.
        batch: arguments of its `generate`.
        paths: for each window; default: `num_parallel_samples` of its configuration.
        seed: of the samples; the global random state is not changed.

    Returns:
        (paths, B, H, C), in the units of `past_values`.
    """
    device = next(model.parameters()).device
    with _parallel_samples(model, paths), _GLOBAL_STATE, preserved_random_state(device, seed=seed):
        sequences = model.generate(**batch).sequences  # type: ignore[operator]
    sequences = sequences.transpose(0, 1)
    return sequences if sequences.dim() == 4 else sequences.unsqueeze(-1)


@contextmanager
def _parallel_samples(model: nn.Module, number: int | None) -> Iterator[None]:
    """PatchTSMixer reads it from the model, the others from the configuration, which others may share."""
    if number is None:
        yield
        return
    before: Any = vars(model).copy()
    try:
        config: Any = copy.copy(before["config"])
        config.num_parallel_samples = number
        model.config = config
        if "num_parallel_samples" in before:
            model.num_parallel_samples = number  # type: ignore[assignment]
        yield
    finally:
        vars(model).update({name: before[name] for name in ("config", "num_parallel_samples") if name in before})
