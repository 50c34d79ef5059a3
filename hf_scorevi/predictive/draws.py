"""Forward passes under posterior draws: one after another, or several at once by `torch.func`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

from ..posterior import Posterior
from ..twin import Folded, Kept, Twin, Twins, require_weights

__all__ = ["GROUP_BATCHES", "GROUP_BYTES", "TABLE_BYTES", "drawn_outputs", "vectorised_outputs"]

# Limits of a group of batches, which share each draw so that making it costs little compared with the passes: their
# number, the bytes of their inputs on the device, and those of the tables that are averaged over draws.
GROUP_BATCHES, GROUP_BYTES, TABLE_BYTES = 64, 1 << 28, 1 << 24

Batch = Mapping[str, Any]
Output = TypeVar("Output")  # a tensor, or several


def drawn_outputs(
    twins: Twins,
    seeds: Sequence[int],
    scale: float,
    batches: Sequence[Batch],
    output_of: Callable[[nn.Module, Batch, int], Output],
    prepare: Callable[[nn.Module], None] | None = None,
) -> Iterator[list[Output]]:
    """
    Yield for each draw the outputs of all `batches`, so that the cost of drawing is shared between them.

    Args:
        twins: of the model, which is not changed.
        seeds: one a draw.
        scale: of the posterior's standard deviations.
        output_of: the output for a batch of a model with the draw's weights, and of this seed.
        prepare: called with each of these models first, for instance to gather batch normalisation's statistics.
    """
    for number, seed in enumerate(seeds, 1):
        model = twins.drawn(seed, scale, last=number == len(seeds))
        if prepare is not None:
            prepare(model)
        yield [output_of(model, batch, seed) for batch in batches]


def vectorised_outputs(
    model: nn.Module,
    posterior: Posterior,
    seeds: Sequence[int],
    scale: float,
    batches: Sequence[Batch],
    output_of: Callable[[Any], Output],
    kept: Kept | None = None,
) -> Iterator[list[Output]]:
    """
    Yield what `drawn_outputs` does, in one pass for all draws, whose weights are held side by side. Everything before
    the first Bayesian weight is computed once: if only the head is Bayesian, the body.
    """
    require_weights(model, posterior)
    weights = {
        name: torch.empty(len(seeds), *p.shape, dtype=p.dtype, device=p.device)
        for name, p in zip(posterior.names, posterior.params, strict=True)
    }
    for i, seed in enumerate(seeds):
        posterior.draw_([stack[i] for stack in weights.values()], seed, scale)
    found = []
    for batch in batches:
        folded = Folded(Twin(model, {}, kept))  # in which the weights can be exchanged while others use the model

        def forward(drawn: dict[str, Tensor], folded: Folded = folded, batch: Batch = batch) -> Any:
            return output_of(functional_call(folded, {f"model.{k}": v for k, v in drawn.items()}, kwargs=dict(batch)))

        found.append(vmap(forward)(weights))
    for i in range(len(seeds)):
        yield [tree_map(partial(torch.select, dim=0, index=i), outputs) for outputs in found]
