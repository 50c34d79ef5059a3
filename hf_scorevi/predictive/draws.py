"""Forward passes under posterior draws: one after another in the model itself, or several at once by `torch.func`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

from ..batch_norm import kept_running_statistics
from ..posterior import Posterior

__all__ = ["drawn_outputs", "vectorised_outputs"]

Batch = Mapping[str, Any]
Output = TypeVar("Output")  # a tensor, or several


def drawn_outputs(
    model: nn.Module,
    posterior: Posterior,
    seeds: Sequence[int],
    scale: float,
    batches: Sequence[Batch],
    output_of: Callable[[Batch, int], Output],
    prepare: Callable[[], None] | None = None,
) -> Iterator[list[Output]]:
    """
    For each draw the outputs of all `batches`, so that the cost of drawing is shared between them.

    Args:
        seeds: one a draw.
        scale: of the posterior's standard deviations.
        output_of: the model's output for a batch, under the draw with this seed.
        prepare: called with each draw's weights in place, for instance to gather batch normalisation's statistics.
    """
    for seed in seeds:
        with posterior.sampled(seed, scale), kept_running_statistics(model):
            if prepare is not None:
                prepare()
            outputs = [output_of(batch, seed) for batch in batches]
        yield outputs


def vectorised_outputs(
    model: nn.Module,
    posterior: Posterior,
    seeds: Sequence[int],
    scale: float,
    batches: Sequence[Batch],
    output_of: Callable[[Any], Output],
) -> Iterator[list[Output]]:
    """
    As `drawn_outputs`, in one pass for all draws, whose weights are held side by side. What comes before the first
    Bayesian weight is computed once: of a posterior over the head alone the body.
    """
    weights = {
        name: torch.empty(len(seeds), *p.shape, dtype=p.dtype, device=p.device)
        for name, p in zip(posterior.names, posterior.params, strict=True)
    }
    for i, seed in enumerate(seeds):
        with posterior.sampled(seed, scale):
            torch._foreach_copy_([stack[i] for stack in weights.values()], posterior.params)
    found = []
    for batch in batches:

        def forward(drawn: dict[str, Tensor], batch: Batch = batch) -> Any:
            return output_of(functional_call(model, drawn, kwargs=dict(batch)))

        found.append(vmap(forward)(weights))
    for i in range(len(seeds)):
        yield [tree_map(partial(torch.select, dim=0, index=i), outputs) for outputs in found]
