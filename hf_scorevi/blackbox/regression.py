"""Linear regression of the score on the sample, with fading memory."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ScoreRegression"]


class ScoreRegression:
    """
    Weighted means and second moments of samples x and scores s, D × D each, weights adding up to one.

    Attributes:
        spread: Σ w² of the samples' weights: the variance of a weighted mean, in units of one sample's.
        samples: number of samples seen.
    """

    def __init__(self, dim: int) -> None:
        self.x_mean = torch.zeros(dim, dtype=torch.float64)
        self.s_mean = torch.zeros(dim, dtype=torch.float64)
        self.xx = torch.zeros(dim, dim, dtype=torch.float64)
        self.sx = torch.zeros(dim, dim, dtype=torch.float64)
        self.spread = 0.0
        self.samples = 0

    def add(self, x: Tensor, s: Tensor, rate: float) -> None:
        """Add a batch, (B, D) each, with total weight `rate`."""
        if self.samples == 0:
            rate = 1.0
        x_mean, s_mean = x.mean(0), s.mean(0)
        x, s = x - x_mean, s - s_mean
        x_mean, s_mean = x_mean - self.x_mean, s_mean - self.s_mean
        between = rate * (1 - rate)
        self.xx = (1 - rate) * self.xx + rate / len(x) * x.T @ x + between * torch.outer(x_mean, x_mean)
        self.sx = (1 - rate) * self.sx + rate / len(x) * s.T @ x + between * torch.outer(s_mean, x_mean)
        self.x_mean, self.s_mean = self.x_mean + rate * x_mean, self.s_mean + rate * s_mean
        self.spread = (1 - rate) ** 2 * self.spread + rate**2 / len(x)
        self.samples += len(x)

    def reach(self, mean: Tensor, factor: Tensor) -> float:
        """
        Return the largest mean square, over directions, of the remembered samples' distance from `mean` in units of
        `factor` (a Cholesky factor). It is about 1 where they come from N(mean, factor factorᵀ), and large once q has
        left them.
        """
        root = torch.linalg.solve_triangular(factor, self.xx + self._offset(mean), upper=False)
        moment = torch.linalg.solve_triangular(factor, root.T, upper=False)
        return float(torch.linalg.eigvalsh((moment + moment.T) / 2)[-1])

    def fit(self, mean: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """
        Return g (D,) and G (D, D) of the fit u ≈ g + G z in coordinates θ = mean + factor z, u = factorᵀ s.

        Raises:
            torch.linalg.LinAlgError: the samples do not span the space.
        """
        root = torch.linalg.solve_triangular(factor, self.xx, upper=False)
        zz = torch.linalg.solve_triangular(factor, root.T, upper=False)
        uz = torch.linalg.solve_triangular(factor, (factor.T @ self.sx).T, upper=False).T
        slope = torch.cholesky_solve(uz.T, torch.linalg.cholesky((zz + zz.T) / 2)).T
        offset = torch.linalg.solve_triangular(factor, (self.x_mean - mean)[:, None], upper=False)[:, 0]
        return factor.T @ self.s_mean - slope @ offset, slope

    def _offset(self, mean: Tensor) -> Tensor:
        difference = self.x_mean - mean
        return torch.outer(difference, difference)
