"""The score-matching update: average the curvature, then take the proximal step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..posterior import ClosedFormFamily, GaussianPrior, Posterior
from .curvature import CurvatureAverage
from .objective import InnerLoop
from .proximal import precision_ratio_
from .schedule import ProximalSchedule
from .update import PosteriorUpdate

__all__ = ["ClosedFormUpdate"]

# A pooled ĥ of a larger variance is all noise, and float32 ends.
_MAX_VARIANCE = 1e6


class ClosedFormUpdate(PosteriorUpdate):
    """
    Set Λ ← Λ · a(ĥ) at each curvature step, with ĥ = (`likelihood_weight` · averaged curvature + 1/σ₀²)/Λ.

    κ rises with the variance v of a tensor's pooled ĥ, κ(1 + v), so that steps which noise could turn are shorter. A
    step that would leave the schedule's trust region ends at its bound, which is what a larger κ would make of it.

    Args:
        posterior, prior, likelihood_weight: see `PosteriorUpdate`.
        schedule: κ over the curvature steps, and the trust region.
        inner_loop: find a(ĥ) by gradient steps instead of its closed form.
    """

    def __init__(
        self,
        posterior: Posterior,
        prior: GaussianPrior,
        likelihood_weight: float,
        schedule: ProximalSchedule,
        inner_loop: InnerLoop | None = None,
    ) -> None:
        super().__init__(posterior, prior, likelihood_weight)
        assert isinstance(posterior.family, ClosedFormFamily)
        self.family: ClosedFormFamily = posterior.family
        self.schedule, self.inner_loop = schedule, inner_loop
        if inner_loop is not None and inner_loop.norm == "none" and self.family.is_matrix:
            raise ValueError(f"score_norm='none' is for isotropic and diagonal posteriors, not {self.family.name}.")
        self.average = CurvatureAverage(self.family)

    def _move_precision(self, curvature: list[Tensor], learning_rate: float) -> None:
        self.average.update(curvature)
        if not self.average.ready:
            return
        weight, kappa = self.likelihood_weight, self.schedule(self.average.steps - 2)
        noise = (weight * self.average.error()).square().tolist()
        level = self.average.level().tolist()
        diagonal = torch.stack([self.family.diagonal(i).mean() for i in range(len(level))])  # one wait for the device
        present = self.family.shards.mean(diagonal.double().cpu()).tolist()
        for i, prior in enumerate(self.prior.precision):
            caution = kappa * (1 + min(noise[i] / present[i] ** 2, _MAX_VARIANCE))
            pieces = self.family.pieces(self.family.stored(i))
            targets = self.average.targets(i, level[i], weight, prior)
            for stored, target in zip(pieces, targets, strict=True):
                ratio = partial(self._ratio, kappa=caution, stored=stored)
                self.family.scale_(stored, self.family.relative_(stored, target), ratio)

    def _ratio(self, h: Tensor, kappa: float, stored: Tensor) -> Tensor:
        """Return a, for a piece of Λ, from ĥ, which is overwritten."""
        bounds = self.schedule.ratio_bounds
        if self.inner_loop is None:
            return precision_ratio_(h, kappa, bounds)
        return self.inner_loop.precision_ratio(h, kappa, stored).clamp_(*bounds)

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
