"""
The ELBO baselines: automatic differentiation variational inference (Kucukelbir et al., JMLR 2017; Bayes by Backprop,
Blundell et al., ICML 2015) and its sticking-the-landing form (Roeder, Wu & Duvenaud, NeurIPS 2017).

With the curvature estimate C = E[gε]/σ of the mean loss, the reparametrised gradient of the negative ELBO with respect
to log σ, the KL to the prior taken analytically, is per weight

    N_eff σ E[gε] + σ²/σ₀² − 1 = ĥ − 1,      ĥ = (N_eff C + 1/σ₀²)/λ.

Sticking the landing drops the score of q's own parameters: the same gradients with the control variate of
`ScoreStatistic` that takes the likelihood's part of λ for known curvature. Where that is the truth, no noise is left.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..posterior import GaussianPrior, Posterior
from .update import PosteriorUpdate

__all__ = ["ElboUpdate"]

_BETAS, _EPS = (0.9, 0.999), 1e-8


class ElboUpdate(PosteriorUpdate):
    """
    Adam on log σ, with the learning rate of the mean.

    Args:
        posterior, prior, likelihood_weight: see `PosteriorUpdate`.
        stick_the_landing: use the path derivative alone.
    """

    def __init__(
        self, posterior: Posterior, prior: GaussianPrior, likelihood_weight: float, stick_the_landing: bool
    ) -> None:
        super().__init__(posterior, prior, likelihood_weight)
        self.stick_the_landing = stick_the_landing
        self.steps = 0
        self.first = [torch.zeros_like(p) for p in posterior.family.precision]
        self.second = [torch.zeros_like(p) for p in posterior.family.precision]

    def _move_precision(self, curvature: list[Tensor], learning_rate: float) -> None:
        if not all(bool(value.isfinite().all()) for value in curvature):
            raise FloatingPointError("A gradient of log σ is not finite; the posterior was left as it was.")
        self.steps += 1
        bias = [1 - beta**self.steps for beta in _BETAS]
        tensors = zip(
            curvature, self.posterior.family.precision, self.prior.precision, self.first, self.second, strict=True
        )
        for value, precision, prior, first, second in tensors:
            value = value.to(precision)
            gradient = value.mul_(self.likelihood_weight).add_(prior).div_(precision).sub_(1)
            first.lerp_(gradient, 1 - _BETAS[0])
            second.lerp_(gradient.square(), 1 - _BETAS[1])
            step = (first / bias[0]).div_((second / bias[1]).sqrt_().add_(_EPS))
            precision.mul_(step.mul_(2 * learning_rate).exp_())  # log λ = −2 log σ

    def known(self) -> Callable[[int], Tensor] | None:
        if not self.stick_the_landing:
            return None
        prior = self.prior.precision
        return lambda i: (self.posterior.family.precision[i] - prior[i]) / self.likelihood_weight

    def shrinkage(self) -> Tensor | None:
        return None

    def state_dict(self) -> dict[str, Tensor]:
        state = super().state_dict() | {"elbo.steps": torch.tensor(self.steps)}
        for name, values in (("first", self.first), ("second", self.second)):
            state |= {f"elbo.{name}.{i}": value for i, value in enumerate(values)}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.steps = int(state["elbo.steps"])
        for name, values in (("first", self.first), ("second", self.second)):
            for i, value in enumerate(values):
                value.copy_(state[f"elbo.{name}.{i}"])
