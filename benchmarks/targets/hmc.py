"""Hamiltonian Monte Carlo (Neal, arXiv 1206.1901) for reference draws of well-behaved targets without any."""

import torch
from torch import Tensor

from benchmarks.targets.base import Function


def hmc(
    log_prob: Function,
    score: Function,
    mean: Tensor,
    covariance: Tensor,
    *,
    num_chains: int = 100,
    num_warmup: int = 50,
    num_draws: int = 100,
    num_steps: int = 8,
    step_size: float = 0.2,
    seed: int = 0,
) -> Tensor:
    """Draws [num_draws · num_chains, D] of parallel chains, in coordinates whitened by N(mean [D], covariance [D, D]).

    The chains start at draws of that normal. The trajectory's length is jittered, against periodic orbits.
    """
    generator = torch.Generator().manual_seed(seed)
    factor = torch.linalg.cholesky(covariance)

    def normal() -> Tensor:
        return torch.randn(num_chains, len(mean), generator=generator, dtype=torch.float64)

    def value(z: Tensor) -> Tensor:
        return log_prob(mean + z @ factor.T)

    def gradient(z: Tensor) -> Tensor:
        return score(mean + z @ factor.T) @ factor

    position, kept = normal(), []
    density = value(position)
    for iteration in range(num_warmup + num_draws):
        momentum = start = normal()
        proposal = position
        step = step_size * (0.7 + 0.6 * torch.rand(num_chains, 1, generator=generator, dtype=torch.float64))
        momentum = momentum + 0.5 * step * gradient(proposal)
        for index in range(num_steps):
            proposal = proposal + step * momentum
            momentum = momentum + (0.5 if index == num_steps - 1 else 1.0) * step * gradient(proposal)
        proposed = value(proposal)
        energy_change = 0.5 * (momentum.square() - start.square()).sum(1) - (proposed - density)
        uniform = torch.rand(num_chains, generator=generator, dtype=torch.float64)
        accept = uniform.log() < -energy_change
        position = torch.where(accept[:, None], proposal, position)
        density = torch.where(accept, proposed, density)
        if iteration >= num_warmup:
            kept.append(position)
    return mean + torch.cat(kept) @ factor.T
