"""
The proximal step of q in closed form.

Per coordinate, with the frozen iterate q_t = N(m_t, 1/λ_t) and in relative units a = λ/λ_t (precision) and
c = a √λ_t (m − m_t) (shift), the objective of arXiv 2602.05873 with norm weight 1/λ_t is

    (a − ĥ)² + (c − ĝ)² + 4κ KL(q_t‖q),      KL(q_t‖q) = ½ [a + c²/a − 1 − log a]

with ĝ = E[ŝ]/√λ_t, ĥ = −E[ŝ ε]/√λ_t of the score ŝ at θ = m_t + ε/√λ_t. Its stationary point is, with b = c/a,

    c = ĝ / (1 + 2κ/a),      a − ĥ + κ (1 − b² − 1/a) = 0.
"""

import torch
from torch import Tensor

__all__ = ["mean_step", "objective", "precision_ratio", "precision_ratio_", "precision_ratio_with_shift"]

_NEWTON_STEPS = 60


def objective(a: Tensor, c: Tensor, h: Tensor, g: Tensor, kappa: float) -> Tensor:
    """Return the objective above without its constant, which the steps below minimise. Shapes broadcast."""
    return (a - h) ** 2 + (c - g) ** 2 + 2 * kappa * (a + c**2 / a - 1 - a.log())


def precision_ratio(h: Tensor, kappa: float) -> Tensor:
    """
    Return a = λ/λ_t with the second-order term b² dropped: a = ½ [(ĥ−κ) + √((ĥ−κ)² + 4κ)].

    Positive for every ĥ: the proximal term is also the barrier.

    Args:
        h: ĥ, the relative curvature, any shape.
        kappa: proximal weight κ > 0.
    """
    u = h - kappa
    root = torch.hypot(u, torch.full_like(u, 2 * kappa**0.5))  # as √(u² + 4κ), without its overflow
    # For u < 0 the sum cancels; the conjugate form does not.
    return torch.where(u > 0, (u + root) / 2, 2 * kappa / (root - u))


def precision_ratio_(h: Tensor, kappa: float, bounds: tuple[float, float]) -> Tensor:
    """
    Return `precision_ratio` kept within `bounds`, in the memory of `h` and two more of its size, without a gradient.

    With s = |u| + √(u² + 4κ) it is 2κ/s + max(u, 0) for either sign of u, without cancellation.
    """
    low, high = (a - kappa / a for a in bounds)  # where u = a − κ/a meets the bounds: u² cannot overflow
    u = h.sub_(kappa).clamp_(low, high)
    s = (u * u).add_(4 * kappa).sqrt_().add_(u.abs())
    return u.clamp_min_(0).add_(torch.div(2 * kappa, s, out=s))


def precision_ratio_with_shift(h: Tensor, g: Tensor, kappa: float) -> Tensor:
    """
    Return a = λ/λ_t of the exact joint minimiser over mean and precision (the b² term kept), to rounding.

    The condition F(a) = a − ĥ + κ (1 − ĝ²/(a+2κ)² − 1/a) is increasing and concave in a > 0, and the root without b²
    lies left of this one: Newton's method from there is monotone and needs no safeguard.
    """
    a = precision_ratio(h, kappa)
    for _ in range(_NEWTON_STEPS):
        b = g / (a + 2 * kappa)
        residual = a - h + kappa * (1 - b.square() - 1 / a)
        slope = 1 + 2 * kappa * b.square() / (a + 2 * kappa) + kappa / a.square()
        update = residual / slope
        a = a - update
        if bool((update.abs() <= 4 * torch.finfo(a.dtype).eps * a).all()):
            break
    return a


def mean_step(g: Tensor, a: Tensor, kappa: float) -> Tensor:
    """Return √λ_t (m − m_t) = ĝ/(a + 2κ): the mean's part of the step, in units of q_t's standard deviation."""
    return g / (a + 2 * kappa)
