"""
Gaussian score matching (Modi et al., NeurIPS 2023, arXiv 2307.07849).

The smallest change of q, in KL(q_t‖q), after which the score of q equals the target's at one sample; over a batch the
single-sample results are averaged. It has no learning rate. Under a noisy score it shrinks the variance.
"""

from __future__ import annotations

from torch import Tensor

from .gaussian import Gaussian
from .noise import normal_noise

__all__ = ["GaussianScoreMatching", "gsm_update", "gsm_update_diagonal"]


def gsm_update(mean: Tensor, covariance: Tensor, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """
    Take one update, averaged over the batch.

    Args:
        mean: (D,) of q_t.
        covariance: (D, D) of q_t.
        x: (B, D) samples of q_t.
        score: (B, D), the target's score there.

    Returns:
        Mean (D,) and covariance (D, D); with B = 1 and a covariance that is positive definite, N(mean, covariance)
        has the given score at x.
    """
    away = mean - x  # (B, D)
    step = score @ covariance  # rows Σ g
    along = (away * score).sum(-1, keepdim=True)  # (m − x)ᵀ g
    rho = _rho((step * score).sum(-1, keepdim=True), along)
    residual = step - away
    # [I − (m−x) gᵀ / (1+ρ+(m−x)ᵀg)] residual / (1+ρ)
    projected = (score * residual).sum(-1, keepdim=True) / (1 + rho + along)
    shift = (residual - away * projected) / (1 + rho)
    new_away = away + shift
    return mean + shift.mean(0), covariance + (away.T @ away - new_away.T @ new_away) / len(x)


def gsm_update_diagonal(mean: Tensor, variance: Tensor, x: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """Take one update of each coordinate by itself; mean and variances have the shape (D,)."""
    away = mean - x
    step = score * variance
    along = away * score
    rho = _rho(step * score, along)
    residual = step - away
    shift = (residual - away * score * residual / (1 + rho + along)) / (1 + rho)
    new_away = away + shift
    return mean + shift.mean(0), variance + (away.square() - new_away.square()).mean(0)


def _rho(quadratic: Tensor, along: Tensor) -> Tensor:
    """Return the positive root of ρ (1 + ρ) = gᵀΣg + ((m − x)ᵀg)²."""
    return 0.5 * (1 + 4 * (quadratic + along.square())).sqrt() - 0.5


class GaussianScoreMatching:
    """GSM as a method of `fit`."""

    def __init__(self, dim: int, batch_size: int | None) -> None:
        self.dim, self.batch_size = dim, batch_size or 2

    def noise(self, seed: int, step: int) -> Tensor:
        """Return (B, D) independent standard normal noise."""
        return normal_noise(self.batch_size, self.dim, seed, step)

    def step(self, q: Gaussian, z: Tensor, score: Tensor) -> Gaussian:
        """
        Take one update.

        Raises:
            torch.linalg.LinAlgError: the average is not positive definite; `fit` then keeps q.
        """
        x = q.transform(z)
        if q.diagonal:
            return Gaussian.from_covariance(*gsm_update_diagonal(q.mean, q.scale.square(), x, score))
        return Gaussian.from_covariance(*gsm_update(q.mean, q.covariance, x, score))
