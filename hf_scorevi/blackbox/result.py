"""The result of a fit."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .gaussian import Gaussian

__all__ = ["FitResult"]


@dataclass(frozen=True)
class FitResult:
    """
    A Gaussian approximation, float64.

    Attributes:
        mean: (D,).
        covariance: (D, D).
        precision: (D, D), the covariance's inverse.
        trace: the figures recorded, one dict for each record: "evaluations", "negative_elbo" (nats, up to log_prob's
            constant; an estimate from noise of its own, the same for all records, whose evaluations of log_prob are
            not counted), "forward_kl" KL(reference‖q) and "reverse_kl" KL(q‖reference) (nats, exact).
        evaluations: scores evaluated, one for each sample.
        converged: whether the method's criterion was met (see `fit`).
        message: why the fit ended, and how many steps were rejected.
        gaussian: the approximation as an object.
    """

    mean: Tensor
    covariance: Tensor
    precision: Tensor
    trace: list[dict[str, float]]
    evaluations: int
    converged: bool
    message: str
    gaussian: Gaussian = field(repr=False)

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Return (n, D) draws, the same for the same seed; the global random state is not touched."""
        return self.gaussian.sample(n, seed)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log q(x) for rows x, (B, D) → (B,)."""
        return self.gaussian.log_prob(x.to(torch.float64))
