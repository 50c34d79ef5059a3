"""Densities that several tests fit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hf_scorevi.blackbox import Gaussian


def random_gaussian(dim: int, seed: int = 0) -> Gaussian:
    """A correlated Gaussian: mean uniform in the unit cube, covariance A Aᵀ + 0.1 I (the GSM paper's, rounder)."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.rand(dim, generator=generator, dtype=torch.float64)
    a = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return Gaussian.from_covariance(mean, a @ a.T + 0.1 * torch.eye(dim, dtype=torch.float64))


_WEIGHT, _CENTRE, _STD = torch.tensor([[0.7, 0.3], [-1, 1.5], [0.4, 0.6]], dtype=torch.float64)


def mixture(x: Tensor) -> Tensor:
    """0.7 N(−1, 0.4²) + 0.3 N(1.5, 0.6²), (B, 1) → (B,): its ELBO has two local optima, `MIXTURE_OPTIMA`."""
    parts = _WEIGHT.log() - _STD.log() - 0.5 * ((x - _CENTRE) / _STD).square()
    return parts.logsumexp(1) - 0.5 * math.log(2 * math.pi)


# (mean, variance), by quadrature and BFGS.
MIXTURE_OPTIMA = {"wide": (0.13251, 1.31037), "mode": (-0.98724, 0.17341)}


def funnel(x: Tensor) -> Tensor:
    """Neal's funnel, (B, D) → (B,)."""
    v = x[:, 0]
    return -v.square() / 18 - 0.5 * (x[:, 1:].square().sum(1) * (-v).exp() + (x.shape[1] - 1) * v)


def cauchy(x: Tensor) -> Tensor:
    """Independent Cauchy coordinates, (B, D) → (B,)."""
    return -torch.log1p(x.square()).sum(1)
