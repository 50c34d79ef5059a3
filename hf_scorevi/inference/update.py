"""The closed-form update of a posterior's precisions: statistics in, λ moved."""

from __future__ import annotations

import torch
from torch import Tensor

from ..posterior import GaussianPrior, Posterior
from .curvature import CurvatureAverage
from .proximal import precision_ratio
from .schedule import ProximalSchedule

__all__ = ["ClosedFormUpdate"]


class ClosedFormUpdate:
    """
    Moves λ by the proximal step on averaged curvature, and the prior's scale by empirical Bayes.

    Args:
        likelihood_weight: N_eff per unit of loss: the log-likelihood is −`likelihood_weight` · (mean loss).
        schedule: κ over the curvature steps.
    """

    def __init__(
        self, posterior: Posterior, prior: GaussianPrior, likelihood_weight: float, schedule: ProximalSchedule
    ) -> None:
        self.posterior, self.prior = posterior, prior
        self.likelihood_weight = likelihood_weight
        self.schedule = schedule
        self.average = CurvatureAverage()

    @torch.no_grad()
    def step(self, curvature: list[Tensor]) -> None:
        """
        One curvature step.

        Args:
            curvature: estimates of the mean loss's second derivative, one tensor each (see `PairStatistic`).

        Raises:
            FloatingPointError: an estimate is not finite; nothing was changed.
        """
        self.average.update(curvature)
        if not self.average.ready:
            return
        kappa = self.schedule(self.average.steps - 2)
        prior_precision = self.prior.precision
        likelihood = self.average.per_weight() if self.average.detail else list(self.average.pooled())
        for value, old, prior in zip(likelihood, self.posterior.family.precision, prior_precision, strict=True):
            target = value.mul_(self.likelihood_weight).add_(prior)
            old.mul_(precision_ratio(target / old, kappa))
        if self.prior.learn_std:
            self.prior.update_std(mean_variance(self.posterior), mean_square_shift(self.posterior, self.prior))

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs besides the weights and their precisions."""
        state = {f"average.{name}": value for name, value in self.average.state_dict().items()}
        state["prior.std"] = torch.tensor(self.prior.std, dtype=torch.float64)
        state["prior.scale"] = torch.tensor(self.prior.scale, dtype=torch.float64)
        return state | {f"prior.mean.{i}": mean for i, mean in enumerate(self.prior.mean)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        devices = [p.device for p in self.posterior.params]
        average = {name.removeprefix("average."): v for name, v in state.items() if name.startswith("average.")}
        self.average.load_state_dict(average, devices)
        self.prior.std, self.prior.scale = state["prior.std"].tolist(), state["prior.scale"].tolist()
        self.prior.mean = [state[f"prior.mean.{i}"].to(device) for i, device in enumerate(devices)]


def mean_variance(posterior: Posterior) -> list[float]:
    """mean 1/λ of each tensor."""
    return [precision.double().reciprocal().mean().item() for precision in posterior.family.precision]


def mean_square_shift(posterior: Posterior, prior: GaussianPrior) -> list[float]:
    """mean (m − μ)² of each tensor; one wait for the device."""
    shifts: list[Tensor] = []
    for index in posterior.buckets:
        shifts += [s.cpu() for s in prior.mean_square_shift([posterior.params[i].detach() for i in index], index)]
    return torch.stack(shifts).tolist()
