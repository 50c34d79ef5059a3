"""
The score statistic: gradient times noise, from which curvature follows.

From single samples, −E[ŝ ε] drowns in mini-batch noise. A pair ±ε on the *same* mini-batch cancels it: ½(g₊ − g₋)ε
depends on the batch only through its curvature, and ½(g₊ + g₋) is the mean gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..posterior import Posterior

__all__ = ["ScoreStatistic"]


class ScoreStatistic:
    """
    Sum ½(g₊ − g₋)ε of pairs, or gε of single samples, over passes, from the gradients that accumulate in `.grad`, with
    no copy of them.

    With G₀, G₁, G₂ the accumulated gradient before a pair, between its passes, and after it, the statistic is linear
    in each: ½[(G₁ − G₀) − (G₂ − G₁)]ε = (−½G₀ + G₁ − ½G₂)ε. So `before`, `between` and `after` only correlate what
    stands in `.grad` with the noise. For a single sample it is (G₁ − G₀)ε.

    Even for a separable quadratic ½(g₊ − g₋)ε = σhε² fluctuates with ε². Score matching itself compares it with
    σλε², not with σλ (the term that makes its gradient the sticking-the-landing one); `known` plays λ's part here: a
    control variate that removes what the noise of ε does to curvature already known.

    Args:
        pairs: whether each sample is run as an antithetic pair.
        known: returns the curvature of the mean loss as known so far for the i-th tensor, in the family's form.
    """

    def __init__(self, posterior: Posterior, pairs: bool, known: Callable[[int], Tensor] | None = None) -> None:
        self.pairs = pairs
        self._posterior = posterior
        self._known = known
        self._sums: list[Tensor | None] = [None] * len(posterior.params)

    def before(self, seed: int) -> None:
        """Record G₀; call before a sample's first pass."""
        self._record(seed, -0.5 if self.pairs else -1.0)

    def between(self, seed: int) -> None:
        """Record G₁ of a pair; call after the pass at +ε."""
        self._record(seed, 1.0)

    def after(self, seed: int, share: float) -> None:
        """
        Record the gradient after a sample's last pass.

        Args:
            share: the factor that the sample's loss carried in backward (1/accumulation steps, a scaler's factor).
        """
        self._record(seed, -0.5 if self.pairs else 1.0, share)
        if self._known is not None and not self.pairs:
            self._center_gradient(seed, share)

    @torch.no_grad()
    def _center_gradient(self, seed: int, share: float) -> None:
        """Subtract C(θ − m), the part of a single sample's noise that is known, from g (a pair has none)."""
        assert self._known is not None
        posterior = self._posterior
        for number, bucket in enumerate(posterior.buckets):
            noise = posterior.bucket_noise(seed, number)
            posterior.family.scale_noise_(noise, bucket)
            for i, e in zip(bucket, noise, strict=True):
                grad = posterior.grad(i)
                if grad is not None:
                    grad.sub_(posterior.family.apply(i, self._known(i), e), alpha=share)

    @torch.no_grad()
    def _record(self, seed: int, weight: float, share: float = 0.0) -> None:
        posterior = self._posterior
        for number, bucket in enumerate(posterior.buckets):
            grads = {i: grad for i in bucket if (grad := posterior.grad(i)) is not None}
            if not grads:
                continue
            index = list(grads)
            noise = [e for i, e in zip(bucket, posterior.bucket_noise(seed, number), strict=True) if i in grads]
            if share and self._known is not None:
                known = posterior.family.known_part(noise, index, [self._known(i) for i in index])
                self._add(index, known, -share)
            self._add(index, posterior.family.correlate([g.float() for g in grads.values()], noise, index), weight)

    def _add(self, index: list[int], values: list[Tensor], weight: float) -> None:
        for i, value in zip(index, values, strict=True):
            total = self._sums[i]
            # The value may be a view of the flat noise: the sum needs other memory.
            self._sums[i] = value * weight if total is None else total.add_(value, alpha=weight)

    @torch.no_grad()
    def curvature(self, factor: float) -> list[Tensor]:
        """
        Return the estimate of the loss's curvature, factor·½(g₊ − g₋)εᵀΛ^½ or factor·gεᵀΛ^½, for each tensor in the
        family's form: its mean over the tensor (`isotropic`), per weight (`diagonal`), …. A tensor that never had a
        gradient has curvature zero.

        Args:
            factor: turns the sum into a mean over passes; also undoes a gradient scaler's factor.
        """
        family, params = self._posterior.family, self._posterior.params
        means = [None if total is None else total.mul_(factor) for total in self._sums]
        curvature = [
            family.curvature(i, mean, p.device) for i, (mean, p) in enumerate(zip(means, params, strict=True))
        ]
        if family.shards.split and not curvature[0].dim():  # means over weights, of which others hold the rest
            return list(family.shards.mean(torch.stack(curvature).cpu()))
        return curvature
