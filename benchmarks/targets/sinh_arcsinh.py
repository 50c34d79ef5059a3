"""Sinh-arcsinh targets: skewed and heavy- or light-tailed, with correlation (Jones & Pewsey, Biometrika 2009)."""

import math

import numpy as np
import torch
from torch import Tensor

from benchmarks.targets.base import Reference, Target

SETTINGS = ((0.2, 1.0), (1.0, 1.0), (0.0, 0.7), (0.0, 1.4), (0.5, 1.2))  # (skewness, tail weight)


def name_of(skewness: float, tail_weight: float) -> str:
    return f"sinh_arcsinh-s{skewness:g}-t{tail_weight:g}"


def sinh_arcsinh(
    skewness: float, tail_weight: float, dim: int = 10, seed: int = 123, num_draws: int = 50_000
) -> Target:
    """x = loc + scale · c · sinh((arcsinh z + skewness) · tail_weight), elementwise, z ~ N(0, R).

    c = 2 / sinh(2' · tail_weight) with 2' = arcsinh 2 keeps the scale comparable, as in TensorFlow Probability's
    `SinhArcsinh`; loc ~ U(0,1), scale ~ U(½,2), R the correlation matrix of LLᵀ + D·I, L ~ N(0,1)^{D×D}. Normalised.
    Tail weight above 1 is heavier than a normal. The reference is a set of exact draws.
    """
    rng = np.random.default_rng(seed)
    loc = torch.from_numpy(rng.uniform(size=dim))
    scale = torch.from_numpy(rng.uniform(0.5, 2.0, size=dim)) * (2 / math.sinh(math.asinh(2.0) * tail_weight))
    factor = torch.from_numpy(rng.standard_normal((dim, dim)))
    covariance = factor @ factor.T + dim * torch.eye(dim, dtype=torch.float64)
    std = covariance.diagonal().sqrt()
    cholesky = torch.linalg.cholesky(covariance / torch.outer(std, std))
    constant = -float((scale.log() + math.log(tail_weight) + cholesky.diagonal().log()).sum())
    constant -= 0.5 * dim * math.log(2 * math.pi)

    def log_prob(x: Tensor) -> Tensor:
        u = (x - loc) / scale
        inner = torch.asinh(u) / tail_weight - skewness  # arcsinh z
        white = torch.linalg.solve_triangular(cholesky, torch.sinh(inner).T, upper=False)
        log_cosh = inner.abs() + torch.log1p(torch.exp(-2 * inner.abs())) - math.log(2.0)
        return constant - 0.5 * white.square().sum(0) + (log_cosh - 0.5 * torch.log1p(u.square())).sum(1)

    z = torch.from_numpy(rng.standard_normal((num_draws, dim))) @ cholesky.T
    draws = loc + scale * torch.sinh((torch.asinh(z) + skewness) * tail_weight)
    name = name_of(skewness, tail_weight)
    return Target(name, "sinh_arcsinh", dim, log_prob, reference=Reference.from_draws(draws), log_normaliser=0.0)
