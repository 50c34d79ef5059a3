"""Batches of examples whose labels are informative together."""

from __future__ import annotations

import torch
from torch import Tensor

from ._inputs import check_k, checked, entropies

__all__ = ["batch_bald"]

_TILE = 1 << 24  # probabilities held at a time: 64 MB


def batch_bald(samples: Tensor, k: int, max_configurations: int = 4096, seed: int = 0) -> tuple[Tensor, Tensor]:
    """
    Choose a batch of k examples whose labels together are most informative about the weights, greedily.

    The sum of `bald` over a batch counts twice what two labels have in common; here each example is scored by the
    information that it adds to those already chosen. The mean over the labels of these is exact as long as they have
    at most `max_configurations` combinations of labels; after that it is over that number of sampled combinations.

    The information from S draws is at most ln S nats: near that every further choice is arbitrary, and more draws are
    needed. Time grows with k · max_configurations · S · B · K, memory with max_configurations · (S + K).

    Args:
        samples: probabilities of each draw, (S, B, K), the draws the same for all examples, such as
            `PredictiveOutput.samples`.
        k: 1 to B.
        max_configurations: combinations of labels, at least K.
        seed: of the sampled combinations.

    Returns:
        Indices (k,) in the order of choice, and the mutual information (k,) of the weights with the labels up to each.

    Raises:
        ValueError: no probabilities of draws, k out of range, or fewer configurations than classes.

    Source: Kirsch, van Amersfoort and Gal, "BatchBALD: Efficient and Diverse Batch Acquisition for Deep Bayesian
    Active Learning", NeurIPS 2019 (arXiv 1906.08158), algorithm 1. The joint entropies of its equation 8 are summed up
    from conditional ones, which stay of one size, and labels are drawn by systematic resampling.
    """
    if samples.dim() != 3:
        raise ValueError(f"batch_bald needs the probabilities of each draw, (S, B, K), not {tuple(samples.shape)}.")
    samples = checked(samples)
    num_draws, num_examples, num_classes = samples.shape
    check_k(k, num_examples)
    if max_configurations < num_classes:
        raise ValueError(f"max_configurations must be at least the {num_classes} classes, not {max_configurations!r}.")
    generator = torch.Generator().manual_seed(seed)
    of_draws = entropies(samples)
    # Of each configuration of the chosen examples' labels (at first the empty one): its probability, and that of each
    # draw given it.
    weights = samples.new_ones(1)
    draws = samples.new_full((1, num_draws), 1 / num_draws)
    chosen: list[int] = []
    gains: list[Tensor] = []
    for _ in range(k):
        # The second term is the draws' mean entropy; with the sampled configurations' share of each draw, their chance
        # cancels in the difference.
        gain = _conditional_entropies(samples, weights, draws) - weights @ draws @ of_draws
        gain[chosen] = -torch.inf
        best = int(gain.argmax())
        chosen.append(best)
        gains.append(gain[best].clamp_min(0))
        weights, draws = _with_label(samples[:, best], weights, draws, max_configurations, generator)
    return torch.tensor(chosen, device=samples.device), torch.stack(gains).cumsum(0)


def _conditional_entropies(samples: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """Return the mean over configurations of the entropy of each example's label given them, (B,)."""
    num_draws, num_examples, num_classes = samples.shape
    tile = max(1, _TILE // (len(weights) * num_classes))
    found = []
    for start in range(0, num_examples, tile):
        part = samples[:, start : start + tile]
        probabilities = (draws @ part.reshape(num_draws, -1)).view(len(weights), -1, num_classes)
        found.append(weights @ entropies(probabilities))
    return torch.cat(found)


def _with_label(
    labels: Tensor, weights: Tensor, draws: Tensor, most: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return weights and draws of the configurations with one more label, of probabilities (S, K) in each draw."""
    joint = (weights[:, None] * (draws @ labels)).flatten()
    possible = joint.nonzero()[:, 0]
    if len(possible) <= most:
        picked, new_weights = possible, joint[possible]
    else:  # evenly spaced on the line of cumulated weights, from one random place
        places = (torch.arange(most) + torch.rand((), generator=generator, dtype=torch.float64)) / most
        line = joint[possible].cpu().double().cumsum(0)
        picked = possible[torch.searchsorted(line, places * line[-1]).clamp_max(len(line) - 1).to(joint.device)]
        new_weights = torch.full_like(picked, 1 / most, dtype=joint.dtype)
    before, label = picked // labels.shape[1], picked % labels.shape[1]
    given = draws[before] * labels.T[label]
    return new_weights, given / given.sum(1, keepdim=True)
