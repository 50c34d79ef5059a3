"""
The ELBO baselines: automatic differentiation variational inference (Kucukelbir et al., JMLR 2017; Bayes by Backprop,
Blundell et al., ICML 2015) and its sticking-the-landing form (Roeder, Wu & Duvenaud, NeurIPS 2017).

With the curvature estimate C = E[gε]/σ of the mean loss, the reparametrised gradient of the negative ELBO with respect
to log σ, the KL to the prior taken analytically, is per weight

    N_eff σ E[gε] + σ²/σ₀² − 1 = ĥ − 1,      ĥ = (N_eff C + 1/σ₀²)/λ.

For blocks Λ = R Rᵀ the same holds in the coordinates R(I + X), X lower triangular: the gradient by −X is the lower
triangle of Ĥ − I, with Ĥ whitened by R.

Sticking the landing drops the score of q's parameters: the same gradients with the control variate of
`ScoreStatistic` that takes the likelihood's part of λ for known curvature. Where that is the truth, no noise is left.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..posterior import ClosedFormFamily, GaussianPrior, Posterior
from .update import PosteriorUpdate

__all__ = ["ElboUpdate"]

_BETAS, _EPS = (0.9, 0.999), 1e-8


class ElboUpdate(PosteriorUpdate):
    """
    Move log σ (X for blocks) by Adam, with the learning rate of the mean.

    Args:
        posterior, prior, likelihood_weight: see `PosteriorUpdate`.
        stick_the_landing: use the path derivative alone.
    """

    def __init__(
        self, posterior: Posterior, prior: GaussianPrior, likelihood_weight: float, stick_the_landing: bool
    ) -> None:
        super().__init__(posterior, prior, likelihood_weight)
        assert isinstance(posterior.family, ClosedFormFamily)
        self.family: ClosedFormFamily = posterior.family
        self.stick_the_landing = stick_the_landing
        self.steps = 0
        self.first = [torch.zeros_like(self.family.stored(i)) for i in range(len(posterior.params))]
        self.second = [torch.zeros_like(first) for first in self.first]

    def _move_precision(self, curvature: list[Tensor], learning_rate: float) -> None:
        finite = all(bool(value.isfinite().all()) for value in curvature)
        if not self.family.shards.every(finite):
            raise FloatingPointError("A gradient of log σ is not finite; the posterior was left as it was.")
        self.steps += 1
        bias = [1 - beta**self.steps for beta in _BETAS]
        tensors = zip(curvature, self.prior.precision, self.first, self.second, strict=True)
        for i, (value, prior, first, second) in enumerate(tensors):
            stored = self.family.stored(i)
            target = self.family.add_level_(value.to(stored).mul_(self.likelihood_weight), prior)
            gradient = self.family.add_level_(self.family.relative_(stored, target), -1)
            first.lerp_(gradient, 1 - _BETAS[0])
            second.lerp_(gradient.square(), 1 - _BETAS[1])
            step = (first / bias[0]).div_((second / bias[1]).sqrt_().add_(_EPS))
            self.family.shift_log_std_(stored, step.mul_(learning_rate))

    def known(self) -> Callable[[int], Tensor] | None:
        if not self.stick_the_landing:
            return None
        family, prior, weight = self.family, self.prior.precision, self.likelihood_weight
        return lambda i: family.add_level_(family.as_curvature(i).clone(), -prior[i]).div_(weight)

    def shrinkage(self) -> Tensor | None:
        return None

    def state_dict(self) -> dict[str, Tensor]:
        state = super().state_dict() | {"elbo.steps": torch.tensor(self.steps)}
        for name, values in (("first", self.first), ("second", self.second)):
            state |= {f"elbo.{name}.{i}": self.family.shards.whole(i, value) for i, value in enumerate(values)}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.steps = int(state["elbo.steps"])
        for name, values in (("first", self.first), ("second", self.second)):
            for i, value in enumerate(values):
                value.copy_(self.family.shards.part(i, state[f"elbo.{name}.{i}"]))
