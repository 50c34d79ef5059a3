"""The interface of an update, which moves a posterior's precisions whatever the objective: statistics in, Λ moved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ..posterior import GaussianPrior, Posterior, mean_variance

__all__ = ["PosteriorUpdate", "mean_square_shift"]

_PRIOR = "prior."


class PosteriorUpdate(ABC):
    """
    Move Λ by estimates of the loss's curvature, and the prior's standard deviations by empirical Bayes.

    Args:
        likelihood_weight: N_eff per unit of loss: the log-likelihood is −`likelihood_weight` · (mean loss).
    """

    def __init__(self, posterior: Posterior, prior: GaussianPrior, likelihood_weight: float) -> None:
        self.posterior, self.prior = posterior, prior
        self.likelihood_weight = likelihood_weight

    @torch.no_grad()
    def step(self, curvature: list[Tensor], learning_rate: float) -> None:
        """
        Take one step.

        Args:
            curvature: estimates of the mean loss's second derivatives, one tensor each (see `ScoreStatistic`).
            learning_rate: of the mean's optimizer at this step, for objectives without a step size.

        Raises:
            FloatingPointError: an estimate is not finite; nothing was changed.
        """
        self._move_precision(curvature, learning_rate)
        if self.prior.learn_std:
            self.prior.update_std(mean_variance(self.posterior), mean_square_shift(self.posterior, self.prior))

    @abstractmethod
    def _move_precision(self, curvature: list[Tensor], learning_rate: float) -> None: ...

    @abstractmethod
    def known(self) -> Callable[[int], Tensor] | None:
        """Return the curvature of the i-th tensor, a control variate for `ScoreStatistic`; `None` if there is none."""

    @abstractmethod
    def shrinkage(self) -> Tensor | None:
        """Return the weight of each tensor's detail against its pool, (tensors,); `None` if nothing is shrunk."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a resumed run needs besides weights and precisions; collective if weights are split."""
        return {_PRIOR + name: value for name, value in self.prior.state_dict(self.posterior).items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `state_dict` returned."""
        prior = {name.removeprefix(_PRIOR): value for name, value in state.items() if name.startswith(_PRIOR)}
        self.prior.load_state_dict(prior, self.posterior)


def mean_square_shift(posterior: Posterior, prior: GaussianPrior) -> list[float]:
    """Return mean (m − μ)² of each tensor; one wait for the device."""
    shifts: list[Tensor] = []
    for index in posterior.buckets:
        shifts += [s.cpu() for s in prior.mean_square_shift([posterior.params[i].detach() for i in index], index)]
    return posterior.shards.mean(torch.stack(shifts)).tolist()
