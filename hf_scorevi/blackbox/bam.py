"""
Batch and match (Cai et al., ICML 2024, arXiv 2402.14758).

    argmin_q  D̂(q) + (2/reg) KL(q_t‖q),      D̂(q) = mean_b ‖∇ log q(x_b) − g_b‖²_{Cov(q)}

in closed form. The score enters quadratically, because the norm is weighted by the *new* covariance: under a noisy
score the variance shrinks, to σ² = [−ν + √(ν² + 4λ²)]/(2λ²) for noise of variance ν and a 1-D target of precision λ.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gaussian import Gaussian
from .noise import normal_noise

__all__ = ["BatchAndMatch", "bam_matrices", "bam_update", "bam_update_diagonal"]


def bam_matrices(mean: Tensor, covariance: Tensor, x: Tensor, score: Tensor, reg: float) -> tuple[Tensor, Tensor]:
    """
    Return Q (D, B+1) and V (D, D) of the equation S U S + S = V, U = Q Qᵀ, that the new covariance S solves.

    Args:
        mean: (D,) of q_t.
        covariance: (D, D) of q_t.
        x: (B, D) samples of q_t.
        score: (B, D), the target's score there.
        reg: weight of the match against the proximal term; larger is bolder.
    """
    share = reg / (1 + reg)
    g, centre = score.mean(0), x.mean(0)
    u = torch.cat([(reg / len(x)) ** 0.5 * (score - g), share**0.5 * g[None]])
    v = torch.cat([(reg / len(x)) ** 0.5 * (x - centre), share**0.5 * (mean - centre)[None]])
    return u.T, covariance + v.T @ v


def bam_update(
    mean: Tensor, covariance: Tensor, x: Tensor, score: Tensor, reg: float, low_rank: bool | None = None
) -> tuple[Tensor, Tensor]:
    """
    Take one update; the arguments are those of `bam_matrices`.

    Args:
        low_rank: solve in B+1 instead of D dimensions; the result is the same. Default: where that is smaller.

    Returns:
        Mean (D,) and covariance (D, D).
    """
    q, v = bam_matrices(mean, covariance, x, score, reg)
    if low_rank is None:
        low_rank = q.shape[1] < q.shape[0]
    if low_rank:
        # S = V − V Q M⁻¹ Qᵀ V with M = (½I + (QᵀVQ + ¼I)^½)², on the eigenvalues of QᵀVQ.
        vq = v @ q
        values, vectors = _eigh(q.T @ vq)
        half = vq @ vectors / (0.5 + (values + 0.25).sqrt())
        new = v - half @ half.T
    else:
        # With V = C Cᵀ and CᵀUC = W diag(w) Wᵀ: S = C W diag(2/(1 + √(1+4w))) Wᵀ Cᵀ.
        factor = torch.linalg.cholesky(v)
        projected = q.T @ factor
        values, vectors = _eigh(projected.T @ projected)
        half = factor @ vectors * (2 / (1 + (1 + 4 * values).sqrt())).sqrt()
        new = half @ half.T
    return _new_mean(mean, x, new @ score.mean(0), reg), (new + new.T) / 2


def bam_update_diagonal(mean: Tensor, variance: Tensor, x: Tensor, score: Tensor, reg: float) -> tuple[Tensor, Tensor]:
    """Take one update of each coordinate by itself; mean and variances have the shape (D,)."""
    g, centre = score.mean(0), x.mean(0)
    u = reg * score.var(0, correction=0) + reg / (1 + reg) * g.square()
    v = variance + reg * x.var(0, correction=0) + reg / (1 + reg) * (mean - centre).square()
    new = 2 * v / (1 + (1 + 4 * u * v).sqrt())
    return _new_mean(mean, x, new * g, reg), new


def _new_mean(mean: Tensor, x: Tensor, step: Tensor, reg: float) -> Tensor:
    return (mean + reg * (step + x.mean(0))) / (1 + reg)


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return values.clamp_min(0), vectors


class BatchAndMatch:
    """
    BaM as a method of `fit`.

    Args:
        batch_size: default max(8, D/2).
        proximal_weight: κ, with reg = 1/(2κ) throughout. Default: reg = B·D/t at the t-th step, the schedule of the
            paper for targets that are not Gaussian.
    """

    def __init__(self, dim: int, batch_size: int | None, proximal_weight: float | None) -> None:
        self.dim, self.batch_size = dim, batch_size or max(8, dim // 2)
        self._weight = proximal_weight
        self._steps = 0

    def noise(self, seed: int, step: int) -> Tensor:
        """Return (B, D) independent standard normal noise."""
        return normal_noise(self.batch_size, self.dim, seed, step)

    def step(self, q: Gaussian, z: Tensor, score: Tensor) -> Gaussian:
        """
        Take one update.

        Raises:
            torch.linalg.LinAlgError: rounding left a covariance that is not positive definite; `fit` then keeps q.
        """
        self._steps += 1
        reg = self.batch_size * self.dim / self._steps if self._weight is None else 1 / (2 * self._weight)
        x = q.transform(z)
        if q.diagonal:
            return Gaussian.from_covariance(*bam_update_diagonal(q.mean, q.scale.square(), x, score, reg))
        return Gaussian.from_covariance(*bam_update(q.mean, q.covariance, x, score, reg))
