"""A posterior that Stan knows: a density of constrained parameters, the map to R^D, and priors that several share."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from benchmarks.targets.transforms import Stack


@dataclass(frozen=True)
class StanModel:
    """What a Stan program says.

    Attributes:
        transform: the parameters' constraints, in the order of the program's `parameters` block.
        log_density: constrained parameters [B, dim] to [B], up to a constant.
        from_draws: the reference draws' columns [B, dim] to the parameters; they differ where the draws hold
            transformed parameters.
    """

    transform: Stack
    log_density: Callable[[Tensor], Tensor]
    from_draws: Callable[[Tensor], Tensor] = lambda draws: draws

    def log_prob(self, u: Tensor) -> Tensor:
        """Log density [B] of the unconstrained parameters u [B, dim], up to a constant."""
        x, log_jacobian = self.transform.constrain(u)
        return self.log_density(x) + log_jacobian

    def unconstrained(self, draws: Tensor) -> Tensor:
        """Reference draws [S, dim] in the unconstrained space."""
        return self.transform.unconstrain(self.from_draws(draws))


def normal(x: Tensor, scale: float, loc: float = 0.0) -> Tensor:
    """log N(x; loc, scale²), elementwise, without its constant."""
    return -0.5 * ((x - loc) / scale).square()


def cauchy(x: Tensor, scale: float) -> Tensor:
    """log Cauchy(x; 0, scale), elementwise, without its constant."""
    return -(x / scale).square().log1p()


def student_t(x: Tensor, degrees: float, scale: float, loc: float = 0.0) -> Tensor:
    """log Student-t(x; degrees, loc, scale), elementwise, without its constant."""
    return -0.5 * (degrees + 1) * (((x - loc) / scale).square() / degrees).log1p()
