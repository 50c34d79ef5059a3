"""
The update of a diagonal-plus-low-rank precision Λ = diag d + U Uᵀ, where the proximal step has no closed form.

With Σ = Λ⁻¹ and C the target's curvature, KL(q‖p) is stationary in d and U where diag Σ(C − Λ)Σ = 0 and (C − Λ)ΣU = 0:
the statistic of `LowRankGaussian`, less the same of Λ. It moves

    d ← d · a(ĥ),  ĥ = 1 + [Σ(C − Λ)Σ]_ii/Σ_ii,        U ← U + ρ (C − Λ)ΣU (UᵀΣU + ρ)⁻¹:

for the diagonal the proximal step, for U a step of orthogonal iteration towards the leading directions of C, ρ being
1/(1 + κ). Where d_i makes up all of a weight's precision, Σ_ii d_i = 1, ĥ is Newton's target; where U does, Newton's,
larger by 1/(Σ_ii d_i), would follow noise. The statistic depends on Λ itself and cannot be averaged first; κ grows
instead, as fast as the averages of the closed form lengthen. It starts at R, the step-size limit of a regression on R
coordinates from single samples.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..posterior import GaussianPrior, LowRankGaussian, Posterior
from .curvature import FORGETTING
from .proximal import precision_ratio
from .schedule import ProximalSchedule
from .update import PosteriorUpdate

__all__ = ["LowRankUpdate"]

# A statistic is clipped to this, so that its square is finite.
_LARGEST = 1e18


class LowRankUpdate(PosteriorUpdate):
    """
    Move d and U by the steps above.

    Args:
        posterior, prior, likelihood_weight: see `PosteriorUpdate`.
        schedule: κ over the curvature steps, to which R + u/(1 + η) is added, η the closed form's forgetting.
    """

    def __init__(
        self, posterior: Posterior, prior: GaussianPrior, likelihood_weight: float, schedule: ProximalSchedule
    ) -> None:
        super().__init__(posterior, prior, likelihood_weight)
        assert isinstance(posterior.family, LowRankGaussian)
        self.family: LowRankGaussian = posterior.family
        self.schedule = schedule
        self.steps = 0

    def _move_precision(self, curvature: list[Tensor], learning_rate: float) -> None:
        if not all(bool(value.isfinite().all()) for value in curvature):
            raise FloatingPointError("A curvature estimate is not finite; the posterior was left as it was.")
        growing = self.schedule(self.steps) + self.steps / (1 + FORGETTING)
        self.steps += 1
        for i, (value, prior) in enumerate(zip(curvature, self.prior.precision, strict=True)):
            value = value.mul_(self.likelihood_weight).add_(self.family.identity_form(i, prior))
            value = value.sub_(self.family.as_curvature(i)).clamp_(-_LARGEST, _LARGEST)
            self._move(i, value[:, 0], value[:, 1:], growing + value.shape[1] - 1)

    def _move(self, i: int, by_diagonal: Tensor, by_factor: Tensor, kappa: float) -> None:
        family, woodbury = self.family, self.family.woodbury(i)
        d, factor = family.precision[i].flatten(), family.factor[i]
        h = 1 + by_diagonal / woodbury.inverse_diagonal()
        ratio = precision_ratio(h, kappa).clamp_(*self.schedule.ratio_bounds)
        rho = 1 / (1 + kappa)
        gram = (factor.T @ woodbury.solve(factor)).double()
        gram.diagonal().add_(rho)
        root = woodbury.root[:, None]
        step = rho * (by_factor / root) @ torch.linalg.inv(gram).to(factor)
        # No further in a step than it is long already, or one standard deviation of the diagonal.
        length = torch.linalg.vector_norm(step, dtype=torch.float64)
        limit = 1 + torch.linalg.vector_norm(factor / root, dtype=torch.float64)
        step = step * (limit / length.clamp_min(limit)).to(step)
        family.set_(i, d * ratio, factor + root * step)

    def known(self) -> Callable[[int], Tensor] | None:
        prior, weight = self.prior.precision, self.likelihood_weight
        return lambda i: torch.tensor([1.0, -prior[i]], dtype=torch.float64) / weight

    def shrinkage(self) -> Tensor | None:
        return None

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"low_rank.steps": torch.tensor(self.steps)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self.steps = int(state["low_rank.steps"])
