"""
Counter-based noise of weights: a pure function of its key.

No generator is kept and the global random state is never touched, so a resumed run draws what the uninterrupted one
would have drawn, and data order and dropout stay what they are without us.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index

import torch
from torch import Tensor

__all__ = ["LOW_RANK_STREAM", "PREDICTION_STREAM", "TRAINING_STREAM", "draw_seed", "mix", "standard_normal"]

# First element of a key, so that the draws of training, of prediction and of a first low-rank factor never coincide.
TRAINING_STREAM, PREDICTION_STREAM, LOW_RANK_STREAM = 0, 1, 2

_MASK = (1 << 64) - 1


def mix(*key: int) -> int:
    """Return a 63-bit seed from integers, by chaining the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    state = 0x9E3779B97F4A7C15
    for part in key:
        state = (state ^ (index(part) & _MASK)) * 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state >> 1


def draw_seed(seed: int, draw: int) -> int:
    """Return the seed of posterior draw number `draw` under the user's `seed`, in trainer and `BayesianModel`."""
    return mix(PREDICTION_STREAM, seed, draw)


def standard_normal(shapes: Sequence[Sequence[int]], device: torch.device, seed: int) -> list[Tensor]:
    """
    Return standard normal float32 noise in `shapes`, views of one flat draw: one kernel for any number of tensors.
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    sizes = [math.prod(shape) for shape in shapes]
    flat = torch.randn(sum(sizes), generator=generator, device=device)
    return [part.view(torch.Size(shape)) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
