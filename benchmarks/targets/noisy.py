"""Noisy scores: what mini-batches do to a method, on a target where the right answer is known."""

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.targets.base import Target
from benchmarks.targets.gaussian import gaussian

NOISE_VARIANCES = (0.0, 0.25, 1.0, 4.0)

# The variance each method settles at on N(0, 1) when N(0, ν) is added to its score (score matching with a frozen
# weight stays at 1). BaM's is exact in the limit of large batches: [−ν + √(ν² + 4)]/2. GSM's was simulated with a
# batch of 8.
GSM_VARIANCES = {0.0: 1.0, 0.25: 0.976, 1.0: 0.848, 4.0: 0.480}


def bam_variance(noise_variance: float) -> float:
    """BaM's fixed point on N(0, 1) for noise of variance ν in the score and a large batch."""
    return 0.5 * (-noise_variance + (noise_variance**2 + 4) ** 0.5)


def with_noisy_score(target: Target, noise_variance: float, name: str, seed: int = 0) -> Target:
    """`target` with N(0, noise_variance) added to every entry of its score, from a generator of its own."""
    generator = torch.Generator().manual_seed(seed)

    def score(x: Tensor) -> Tensor:
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return target.score(x) + noise_variance**0.5 * noise

    return replace(target, name=name, score=score, noisy=noise_variance > 0)


def noisy_gaussian(noise_variance: float, seed: int = 0) -> Target:
    """N(0, 1) in one dimension, started at N(1, 2²)."""
    one = torch.ones(1, 1, dtype=torch.float64)
    clean = replace(gaussian(torch.zeros(1, dtype=torch.float64), one, group="noisy"), init_mean=one[0], init_std=2.0)
    return with_noisy_score(clean, noise_variance, f"noisy-{noise_variance:g}", seed)
