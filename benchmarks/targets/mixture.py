"""Gaussian mixtures, which no Gaussian q can match: the optima of the divergences differ, and there are several."""

import math

import torch
from torch import Tensor

from benchmarks.targets.base import Reference, Target

SEPARATIONS = (1.0, 2.0, 4.0, 8.0)  # distance of the two means in the components' standard deviation

# (mean, variance) of the stationary points for `mixture_1d`: those of reverse KL are the fixed points of every method
# that is an ELBO method in disguise, score_vi among them; docs/method.md.
OPTIMA_1D = {
    "forward KL": (-0.25, 1.5325),
    "reverse KL, wide": (0.13251, 1.31037),
    "reverse KL, mode": (-0.98724, 0.17341),
    "Fisher, right": (1.6090, 0.3034),
    "Fisher, left": (-1.0148, 0.1557),
    "Fisher weighted by cov(q), right": (1.5985, 0.2786),
    "Fisher weighted by cov(q), left": (-1.0147, 0.1526),
}


def mixture(name: str, weights: Tensor, means: Tensor, covariances: Tensor, **fields: object) -> Target:
    """Σ_k w_k N(m_k, S_k), normalised, score and moments in closed form; weights [K], means [K, D], covariances
    [K, D, D]."""
    dim = means.shape[1]
    factors = torch.linalg.cholesky(covariances)
    constants = weights.log() - factors.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * dim * math.log(2 * math.pi)

    def components(x: Tensor) -> tuple[Tensor, Tensor]:
        """log w_k N(x; m_k, S_k) [K, B] and S_k⁻¹(m_k − x) [K, D, B]."""
        shift = (means[:, None] - x).transpose(1, 2)
        white = torch.linalg.solve_triangular(factors, shift, upper=False)
        scores = torch.linalg.solve_triangular(factors.transpose(1, 2), white, upper=True)
        return constants[:, None] - 0.5 * white.square().sum(1), scores

    def log_prob(x: Tensor) -> Tensor:
        return torch.logsumexp(components(x)[0], 0)

    def score(x: Tensor) -> Tensor:
        logits, scores = components(x)
        return (logits.softmax(0)[:, None] * scores).sum(0).T

    mean = weights @ means
    spread = means - mean
    covariance = torch.einsum("k,kij->ij", weights, covariances) + torch.einsum("k,ki,kj->ij", weights, spread, spread)
    reference = Reference(mean, covariance)
    return Target(name, "mixture", dim, log_prob, score, reference, log_normaliser=0.0, **fields)  # type: ignore[arg-type]


def mixture_1d() -> Target:
    """0.7 N(−1, 0.4²) + 0.3 N(1.5, 0.6²)."""
    weights, means, stds = ([0.7, 0.3], [-1.0, 1.5], [0.4, 0.6])
    double = torch.float64
    return mixture(
        "mixture-1d",
        torch.tensor(weights, dtype=double),
        torch.tensor(means, dtype=double)[:, None],
        torch.tensor(stds, dtype=double).square()[:, None, None],
        optima=OPTIMA_1D,
    )


def mixture_2d() -> Target:
    """Three components of different weight, shape and orientation."""
    weights = torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64)
    means = torch.tensor([[-1.5, 0.0], [1.0, 1.5], [1.0, -1.5]], dtype=torch.float64)
    covariances = torch.tensor(
        [[[1.0, 0.0], [0.0, 0.3]], [[0.6, 0.4], [0.4, 0.6]], [[0.5, -0.3], [-0.3, 0.8]]], dtype=torch.float64
    )
    return mixture("mixture-2d", weights, means, covariances)


def mixture_separated(separation: float, dim: int = 10) -> Target:
    """0.6 N(−d/2, I) + 0.4 N(d/2, I), with d of length `separation` along the diagonal of R^D."""
    direction = torch.ones(dim, dtype=torch.float64) / math.sqrt(dim)
    means = 0.5 * separation * torch.stack([-direction, direction])
    covariances = torch.eye(dim, dtype=torch.float64).expand(2, dim, dim)
    weights = torch.tensor([0.6, 0.4], dtype=torch.float64)
    return mixture(f"mixture-{dim}d-sep{separation:g}", weights, means, covariances)
