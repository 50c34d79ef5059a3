"""The closed-form update: average the curvature, then take the proximal step."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ..posterior import GaussianPrior, Posterior
from .curvature import CurvatureAverage
from .proximal import precision_ratio
from .schedule import ProximalSchedule
from .update import PosteriorUpdate

__all__ = ["ClosedFormUpdate"]

# What float32 can hold with room for its root and its product with a gradient.
_PRECISION_RANGE = 1e-30, 1e30


class ClosedFormUpdate(PosteriorUpdate):
    """
    λ ← λ · a(ĥ), with ĥ = (`likelihood_weight` · averaged curvature + 1/σ₀²)/λ.

    Args:
        posterior, prior, likelihood_weight: see `PosteriorUpdate`.
        schedule: κ over the curvature steps.
    """

    def __init__(
        self, posterior: Posterior, prior: GaussianPrior, likelihood_weight: float, schedule: ProximalSchedule
    ) -> None:
        super().__init__(posterior, prior, likelihood_weight)
        self.schedule = schedule
        self.average = CurvatureAverage()

    def _move_precision(self, curvature: list[Tensor], learning_rate: float) -> None:
        self.average.update(curvature)
        if not self.average.ready:
            return
        kappa = self.schedule(self.average.steps - 2)
        likelihood = self.average.per_weight() if self.average.detail else list(self.average.pooled())
        for value, old, prior in zip(likelihood, self.posterior.family.precision, self.prior.precision, strict=True):
            target = value.mul_(self.likelihood_weight).add_(prior)
            old.mul_(precision_ratio(target / old, kappa)).clamp_(*_PRECISION_RANGE)

    def known(self) -> Callable[[int], Tensor] | None:
        return self.average.known()

    def shrinkage(self) -> Tensor | None:
        return self.average.shrinkage() if self.average.detail and self.average.ready else None

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {f"average.{name}": v for name, v in self.average.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        average = {name.removeprefix("average."): v for name, v in state.items() if name.startswith("average.")}
        self.average.load_state_dict(average, [p.device for p in self.posterior.params])
