"""How strong the proximal term is, over the curvature steps."""

from dataclasses import dataclass

__all__ = ["ProximalSchedule"]


@dataclass(frozen=True)
class ProximalSchedule:
    """
    κ_u = weight + growth · u at the u-th curvature step, u = 0, 1, …

    1/κ is the step size of the precision: it follows its target by a factor 1/(1 + κ) a step. A growing κ averages
    over ever more steps.
    """

    weight: float = 3.0
    growth: float = 0.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"The proximal weight must be positive, not {self.weight!r}.")
        if not self.growth >= 0:
            raise ValueError(f"The proximal growth must not be negative, not {self.growth!r}.")

    def __call__(self, step: int) -> float:
        return self.weight + self.growth * step
