"""The Gaussian that all methods here move: dense or diagonal, float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from .noise import normal_noise

__all__ = ["Gaussian"]


@dataclass(frozen=True)
class Gaussian:
    """
    N(mean, L Lᵀ).

    Attributes:
        mean: (D,).
        scale: the lower Cholesky factor L, (D, D), or the standard deviations, (D,), of a diagonal Gaussian.
    """

    mean: Tensor
    scale: Tensor

    @staticmethod
    def from_covariance(mean: Tensor, covariance: Tensor) -> Gaussian:
        """
        Build a Gaussian from a (D, D) covariance, or from (D,) variances.

        Raises:
            torch.linalg.LinAlgError: the covariance is not positive definite.
        """
        if covariance.dim() == 1:
            if not bool((covariance > 0).all()):
                raise LinAlgError("A variance is not positive.")
            return Gaussian(mean, covariance.sqrt())
        return Gaussian(mean, torch.linalg.cholesky((covariance + covariance.T) / 2))

    @property
    def diagonal(self) -> bool:
        """Whether `scale` holds standard deviations."""
        return self.scale.dim() == 1

    @property
    def factor(self) -> Tensor:
        """L as a (D, D) matrix, for either form."""
        return torch.diag(self.scale) if self.diagonal else self.scale

    @property
    def covariance(self) -> Tensor:
        """The covariance, (D, D)."""
        return self.factor @ self.factor.T

    @property
    def precision(self) -> Tensor:
        """The covariance's inverse, (D, D)."""
        if self.diagonal:
            return torch.diag(self.scale.square().reciprocal())
        return torch.cholesky_inverse(self.scale)

    def is_sound(self) -> bool:
        """Return whether everything is finite and the covariance positive definite."""
        diagonal = self.scale if self.diagonal else self.scale.diagonal()
        finite = bool(self.mean.isfinite().all()) and bool(self.scale.isfinite().all())
        # Its square must not underflow or overflow either: covariance and precision are what the user gets.
        return finite and bool((diagonal > 1e-140).all()) and bool((diagonal < 1e140).all())

    def transform(self, z: Tensor) -> Tensor:
        """Return θ = mean + L z for rows z, (B, D)."""
        return self.mean + (z * self.scale if self.diagonal else z @ self.scale.T)

    def whiten(self, x: Tensor) -> Tensor:
        """Return z = L⁻¹ (θ − mean) for rows θ, (B, D), the inverse of `transform`."""
        centred = x - self.mean
        if self.diagonal:
            return centred / self.scale
        return torch.linalg.solve_triangular(self.scale, centred.T, upper=False).T

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log q(x) for rows x, (B, D) → (B,)."""
        return -0.5 * self.whiten(x).square().sum(-1) - self._log_det() - 0.5 * x.shape[-1] * math.log(2 * math.pi)

    def score(self, x: Tensor) -> Tensor:
        """Return ∇ log q(x) for rows x, (B, D)."""
        z = self.whiten(x)
        if self.diagonal:
            return -z / self.scale
        return -torch.linalg.solve_triangular(self.scale.T, z.T, upper=True).T

    def entropy(self) -> float:
        """Return the entropy in nats."""
        dim = self.mean.numel()
        return float(self._log_det() + 0.5 * dim * (1 + math.log(2 * math.pi)))

    def kl(self, other: Gaussian) -> float:
        """Return KL(self‖other) in nats."""
        relative = other.whiten(other.mean + self.factor.T)  # rows of (L_other⁻¹ L)ᵀ
        shift = other.whiten(self.mean[None])
        quadratic = relative.square().sum() + shift.square().sum() - self.mean.numel()
        return float(0.5 * quadratic + other._log_det() - self._log_det())

    def sample(self, n: int, seed: int) -> Tensor:
        """Return (n, D) draws, the same for the same seed; the global random state is not touched."""
        return self.transform(normal_noise(n, self.mean.numel(), seed))

    def _log_det(self) -> Tensor:
        """Return log det L."""
        return (self.scale if self.diagonal else self.scale.diagonal()).log().sum()
