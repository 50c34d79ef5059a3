"""
The objective of arXiv 2602.05873 by gradient steps, as the paper has it: samples and scores are drawn once from the
frozen q_t, and a torch optimizer takes K inner steps on them.

In coordinates whitened by q_t = N(m, L Lᵀ), θ = m + L z and u = Lᵀ ŝ, a new q of relative precision A = T Tᵀ and mean
A⁻¹c is scored by

    mean_b ‖A z − c + u‖² + 4κ KL(q_t‖q),      KL(q_t‖q) = ½ [tr A + cᵀA⁻¹c − D − log det A],

the norm being weighted by q_t's covariance. `inference.objective` has the same for diagonal precisions. Two choices
that the paper leaves open decide whether it converges from afar: c, in which the match is quadratic, instead of the
mean; and samples in pairs ±z, or chance correlation of z with a large mean score passes for curvature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..inference.objective import gradient_update
from .gaussian import Gaussian
from .noise import antithetic_noise, require_pairs

__all__ = ["GradientScoreVI", "whitened_objective"]

_INNER_STEPS = 10


def whitened_objective(factor: Tensor, shift: Tensor, z: Tensor, u: Tensor, kappa: float) -> Tensor:
    """
    Return the objective above, a scalar that is differentiable in T and c.

    Args:
        factor: T, (D, D) lower triangular with a positive diagonal.
        shift: c, (D,).
        z: (B, D) noise of the samples.
        u: (B, D) whitened scores at the samples.
        kappa: proximal weight κ.
    """
    matching = (z @ factor @ factor.T - shift + u).square().sum(1).mean()
    root = torch.linalg.solve_triangular(factor, shift[:, None], upper=False)
    penalty = factor.square().sum() + root.square().sum() - len(shift)
    return matching + 2 * kappa * (penalty - 2 * factor.diagonal().log().sum())


class GradientScoreVI:
    """
    The paper's inner loop as a method of `fit`: Adam over c and T with logarithmic diagonal, on reused samples.

    Args:
        batch_size: samples of an outer step, an even number; default max(16, D).
        learning_rate: Adam's, default 0.05; it falls linearly to zero over the budget.
        proximal_weight: κ, default 10: a batch of about D scores leaves H noisy.
        max_evaluations: the budget that the learning rate's schedule spans.
    """

    def __init__(
        self,
        dim: int,
        batch_size: int | None,
        learning_rate: float | None,
        proximal_weight: float | None,
        max_evaluations: int,
    ) -> None:
        self.dim, self.batch_size = dim, batch_size or max(16, dim + dim % 2)
        self._pairs = require_pairs(self.batch_size, "score_vi_gradient")
        self._rate, self._kappa = learning_rate or 0.05, proximal_weight or 10.0
        self._last = max(1, max_evaluations // self.batch_size)
        self._steps = 0

    def noise(self, seed: int, step: int) -> Tensor:
        """Return (B, D) standard normal noise in pairs ±z."""
        return antithetic_noise(self._pairs, self.dim, seed, step)

    def step(self, q: Gaussian, z: Tensor, score: Tensor) -> Gaussian:
        """Take one outer step, of `_INNER_STEPS` inner ones."""
        rate = self._rate * max(0.0, 1 - self._steps / self._last)
        self._steps += 1
        if q.diagonal:
            precision = q.scale.square().reciprocal()
            mean, precision = gradient_update(
                q.mean, precision, q.transform(z), score, self._kappa, _INNER_STEPS, rate
            )
            return Gaussian(mean, precision.rsqrt())
        return self._dense_step(q, z, score @ q.scale, rate)

    def _dense_step(self, q: Gaussian, z: Tensor, u: Tensor, rate: float) -> Gaussian:
        entries = torch.zeros(self.dim, self.dim, dtype=torch.float64, requires_grad=True)
        shift = torch.zeros(self.dim, dtype=torch.float64, requires_grad=True)
        inner = torch.optim.Adam([entries, shift], lr=rate)
        with torch.enable_grad():
            for _ in range(_INNER_STEPS):
                inner.zero_grad()
                whitened_objective(_factor(entries), shift, z, u, self._kappa).backward()  # type: ignore[no-untyped-call]
                inner.step()
        with torch.no_grad():
            # Λ' = L⁻ᵀ T Tᵀ L⁻¹, so the covariance's factor is L T⁻ᵀ, made lower triangular by QR.
            factor = _factor(entries)
            r = torch.linalg.qr(torch.linalg.solve_triangular(factor, q.scale.T, upper=False), mode="r").R
            shift = torch.cholesky_solve(shift[:, None], factor)[:, 0]
            return Gaussian(q.mean + q.scale @ shift, (r * r.diagonal().sign()[:, None]).T)


def _factor(entries: Tensor) -> Tensor:
    """Return T from free entries: the lower triangle, with the exponential of the diagonal."""
    return entries.tril(-1) + entries.diagonal().exp().diag()
