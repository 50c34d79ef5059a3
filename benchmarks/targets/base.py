"""What a benchmark target is: a density on R^D, its score, and what is known about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Reference:
    """Moments of the target, in its unconstrained space, float64.

    Attributes:
        mean: [dim].
        covariance: [dim, dim].
        draws: [draws, dim], or None where the moments are exact.
    """

    mean: Tensor
    covariance: Tensor
    draws: Tensor | None = None

    @classmethod
    def from_draws(cls, draws: Tensor) -> "Reference":
        """The moments of `draws` [S, dim], with divisor S, so that the cross-entropy −E log q of a Gaussian q under
        the draws is its KL from N(mean, covariance) plus a constant."""
        return cls(draws.mean(0), torch.cov(draws.T, correction=0).reshape(draws.shape[1], draws.shape[1]), draws)


def autograd_score(log_prob: Function) -> Function:
    """The score [B, D] of a log density by automatic differentiation; rows must not depend on one another."""

    def score(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(log_prob(x).sum(), x)
        return gradient

    return score


@dataclass(frozen=True)
class Target:
    """A density to approximate.

    Attributes:
        name: the name in tables and on the command line.
        group: targets of one group share a figure.
        dim: D.
        log_prob: x [B, D] to [B], float64, up to the constant −`log_normaliser`.
        score: x [B, D] to ∇ log p [B, D]; unbiased but random where `noisy`. By default the gradient of `log_prob`.
        reference: moments or draws, None where there are none.
        log_normaliser: log ∫ exp(log_prob), None where it is unknown.
        gaussian: whether the target is N(reference.mean, reference.covariance), so that divergences are closed forms.
        noisy: whether `score` is a random estimate. `log_prob` is exact all the same.
        init_mean: [D], where every method starts; zeros if None.
        init_std: standard deviation where every method starts.
        optima: known stationary points, name to (mean, variance) of a one-dimensional q.
    """

    name: str
    group: str
    dim: int
    log_prob: Function
    score: Function = None  # type: ignore[assignment]  # filled in __post_init__
    reference: Reference | None = None
    log_normaliser: float | None = None
    gaussian: bool = False
    noisy: bool = False
    init_mean: Tensor | None = None
    init_std: float = 1.0
    optima: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.score is None:
            object.__setattr__(self, "score", autograd_score(self.log_prob))  # type: ignore[unreachable]
