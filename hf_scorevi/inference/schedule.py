"""The strength of the proximal term over the curvature steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

__all__ = ["ProximalSchedule"]


@dataclass(frozen=True)
class ProximalSchedule:
    """
    κ_u = weight + growth · u at the u-th curvature step, u = 0, 1, …, and a trust region.

    1/κ is the step size of the precision: it follows its target by a factor 1/(1 + κ) a step. A growing κ averages
    over ever more steps. Whatever κ, no step of the precision exceeds KL(q_t‖q) = `max_kl` nats a weight, and so a
    tensor of D weights stays within D·`max_kl`.
    """

    weight: float = 2.0
    growth: float = 0.0
    max_kl: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"The proximal weight must be positive, not {self.weight!r}.")
        if not self.growth >= 0:
            raise ValueError(f"The proximal growth must not be negative, not {self.growth!r}.")
        if not self.max_kl > 0:
            raise ValueError(f"max_kl must be positive, not {self.max_kl!r}.")

    def __call__(self, step: int) -> float:
        return self.weight + self.growth * step

    @cached_property
    def ratio_bounds(self) -> tuple[float, float]:
        """
        The two ratios a = λ/λ_t with ½[a − 1 − log a] = max_kl: Newton's method on e^x − 1 − x, which is convex in
        x = log a, so that it comes down to each root from outside.
        """
        low, high = -1 - 2 * self.max_kl, math.log(2 + 4 * self.max_kl) + 1
        for _ in range(60):
            low -= (math.expm1(low) - low - 2 * self.max_kl) / math.expm1(low)
            high -= (math.expm1(high) - high - 2 * self.max_kl) / math.expm1(high)
        return math.exp(low), math.exp(high)
