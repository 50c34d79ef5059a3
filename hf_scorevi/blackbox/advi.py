"""
Automatic differentiation variational inference (Kucukelbir et al., JMLR 2017), with Adam.

`stl` drops the score of q from the gradient ("sticking the landing", Roeder et al., NeurIPS 2017, arXiv 1703.09194):
the gradient's noise then vanishes where q equals the target.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gaussian import Gaussian
from .noise import antithetic_noise, normal_noise, require_pairs

__all__ = ["ADVI", "negative_elbo_gradient"]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


def negative_elbo_gradient(q: Gaussian, z: Tensor, score: Tensor, stl: bool) -> tuple[Tensor, Tensor]:
    """
    Estimate the negative ELBO's gradient by reparametrisation.

    Args:
        z: (B, D) noise; the samples are θ = m + L z.
        score: (B, D), the target's score at the samples.
        stl: use the path derivative alone; otherwise the entropy's gradient is exact.

    Returns:
        Gradients by the mean, (D,), and by the scale, (D, D) lower triangular or (D,), with logarithmic diagonal
        (standard deviations).
    """
    residual = q.score(q.transform(z)) - score if stl else -score
    diagonal = q.scale if q.diagonal else q.scale.diagonal()
    if q.diagonal:
        by_scale = (residual * z).mean(0) * diagonal
    else:
        by_scale = (residual.T @ z / len(z)).tril()
        by_scale.diagonal().mul_(diagonal)
    if not stl:
        (by_scale if q.diagonal else by_scale.diagonal()).sub_(1)
    return residual.mean(0), by_scale


class ADVI:
    """
    ADVI as a method of `fit`: Adam over the mean and the Cholesky factor with logarithmic diagonal.

    Args:
        batch_size: samples of a step, default 8.
        learning_rate: Adam's, default 0.05; it falls linearly to zero over `steps`.
        stl: use the sticking-the-landing gradient.
        antithetic: draw samples in pairs ±z.
        max_evaluations: the budget that the learning rate's schedule spans.
    """

    def __init__(
        self,
        dim: int,
        batch_size: int | None,
        learning_rate: float | None,
        stl: bool,
        antithetic: bool,
        max_evaluations: int,
    ) -> None:
        self.dim, self.batch_size = dim, batch_size or 8
        self._pairs = require_pairs(self.batch_size, "antithetic") if antithetic else None
        self._rate = learning_rate or 0.05
        self._stl = stl
        self._last = max(1, max_evaluations // self.batch_size)
        self._steps = 0
        self._first: Tensor | None = None
        self._second: Tensor | None = None

    def noise(self, seed: int, step: int) -> Tensor:
        """Return (B, D) standard normal noise."""
        if self._pairs is not None:
            return antithetic_noise(self._pairs, self.dim, seed, step)
        return normal_noise(self.batch_size, self.dim, seed, step)

    def step(self, q: Gaussian, z: Tensor, score: Tensor) -> Gaussian:
        """Take one step of Adam."""
        by_mean, by_scale = negative_elbo_gradient(q, z, score, self._stl)
        gradient = torch.cat([by_mean, by_scale.flatten()])
        if self._first is None or self._second is None:
            self._first, self._second = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self._steps += 1
        self._first = self._first.lerp(gradient, 1 - _BETA1)
        self._second = self._second.lerp(gradient.square(), 1 - _BETA2)
        scale = (self._second / (1 - _BETA2**self._steps)).sqrt() + _EPSILON
        rate = self._rate * max(0.0, 1 - (self._steps - 1) / self._last)
        update = rate * self._first / (1 - _BETA1**self._steps) / scale
        by_mean, by_scale = update[: self.dim], update[self.dim :].view_as(q.scale)
        if q.diagonal:
            return Gaussian(q.mean - by_mean, q.scale * (-by_scale).exp())
        new = q.scale - by_scale.tril(-1)
        new.diagonal().copy_(q.scale.diagonal() * (-by_scale.diagonal()).exp())
        return Gaussian(q.mean - by_mean, new)
