"""Gaussian targets of the GSM paper (Modi et al., arXiv 2307.07849), as drawn and with a chosen condition number."""

import math

import numpy as np
import torch
from torch import Tensor

from benchmarks.targets.base import Reference, Target

DIMS = (4, 16, 64, 256)
CONDITIONS = (None, 10.0, 1000.0)  # None: as drawn; the condition number then grows with the dimension


def gaussian(mean: Tensor, covariance: Tensor, name: str = "gaussian", group: str = "gaussian") -> Target:
    """N(mean [D], covariance [D, D]), normalised, with its score in closed form."""
    dim = mean.numel()
    factor = torch.linalg.cholesky(covariance)
    constant = -0.5 * dim * math.log(2 * math.pi) - float(factor.diagonal().log().sum())

    def log_prob(x: Tensor) -> Tensor:
        return constant - 0.5 * torch.linalg.solve_triangular(factor, (x - mean).T, upper=False).square().sum(0)

    def score(x: Tensor) -> Tensor:
        return -torch.cholesky_solve((x - mean).T, factor).T

    reference = Reference(mean, covariance)
    return Target(name, group, dim, log_prob, score, reference, log_normaliser=0.0, gaussian=True)


def random_gaussian(dim: int, condition: float | None = None, seed: int = 123) -> Target:
    """μ ~ U(0,1)^D, L ~ N(0,1)^{D×D}, covariance LLᵀ + 0.01 I.

    With `condition`, the logarithms of the eigenvalues are mapped linearly so that they run from 0.1 to
    0.1 · condition; the eigenvectors stay.
    """
    rng = np.random.default_rng(seed)
    mean = torch.from_numpy(rng.uniform(size=dim))
    factor = torch.from_numpy(rng.standard_normal((dim, dim)))
    covariance = factor @ factor.T + 0.01 * torch.eye(dim, dtype=torch.float64)
    name = f"gaussian-{dim}"
    if condition is not None:
        values, vectors = torch.linalg.eigh(covariance)
        position = (values / values[0]).log() / (values[-1] / values[0]).log()  # 0 for the smallest, 1 for the largest
        covariance = (vectors * (0.1 * condition**position)) @ vectors.T
        covariance = 0.5 * (covariance + covariance.T)
        name += f"-cond{condition:g}"
    return gaussian(mean, covariance, name)
