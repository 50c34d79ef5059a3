"""
The score statistic of an antithetic pair on one mini-batch.

From single samples, −E[ŝ ε] drowns in mini-batch noise. A pair ±ε on the *same* mini-batch cancels it: ½(g₊ − g₋)ε
depends on the batch only through its curvature, and ½(g₊ + g₋) is the mean gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..posterior import Posterior

__all__ = ["PairStatistic"]


class PairStatistic:
    """
    ½(g₊ − g₋)ε, summed over passes, from the gradients that accumulate in `.grad`, with no copy of them.

    With G₀, G₁, G₂ the accumulated gradient before the pair, between its passes, and after it, the statistic is linear
    in each: ½[(G₁ − G₀) − (G₂ − G₁)]ε = (−½G₀ + G₁ − ½G₂)ε. So `before`, `between` and `after` only correlate what
    stands in `.grad` with the pair's noise.
    """

    def __init__(self, posterior: Posterior) -> None:
        self._posterior = posterior
        self._sums: list[Tensor | None] = [None] * len(posterior.params)

    def before(self, seed: int) -> None:
        """Record G₀; call before the first pass."""
        self._record(seed, -0.5)

    def between(self, seed: int) -> None:
        """Record G₁; call after the pass at +ε."""
        self._record(seed, 1.0)

    def after(self, seed: int) -> None:
        """Record G₂; call after the pass at −ε."""
        self._record(seed, -0.5)

    @torch.no_grad()
    def _record(self, seed: int, weight: float) -> None:
        posterior = self._posterior
        if all(p.grad is None for p in posterior.params):
            return
        for index, noise in posterior.noise(seed):
            kept = [(i, e) for i, e in zip(index, noise, strict=True) if posterior.params[i].grad is not None]
            grads = [posterior.params[i].grad.float() for i, _ in kept]  # type: ignore[union-attr]
            for (i, _), product in zip(kept, posterior.family.correlate(grads, [e for _, e in kept]), strict=True):
                total = self._sums[i]
                # The product may be a view of the flat noise: the sum needs memory of its own.
                self._sums[i] = product * weight if total is None else total.add_(product, alpha=weight)

    @torch.no_grad()
    def curvature(self, scale: float) -> list[Tensor]:
        """
        The estimate of the loss's curvature, scale·½(g₊ − g₋)ε/σ, for each tensor: its mean over the tensor
        (`isotropic`) or per weight (`diagonal`). A tensor that never had a gradient has curvature zero.

        Args:
            scale: turns the sum into a mean over passes; also undoes a gradient scaler's factor.
        """
        posterior = self._posterior
        sums = []
        for total, p, precision in zip(self._sums, posterior.params, posterior.family.precision, strict=True):
            if total is None:
                dtype = torch.float64 if precision.dim() == 0 else torch.float32
                total = torch.zeros(precision.shape, dtype=dtype, device=p.device)
            sums.append(total.mul_(scale))
        posterior.family.divide_by_std_(sums)
        return sums
