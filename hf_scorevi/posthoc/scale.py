"""The width of a posterior, fitted by held-out likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["fit_scale"]

_COARSE = (0.25, 0.5, 1.0, 2.0, 4.0)
_STEPS = 3  # after the first two golden sections
_GOLDEN = (math.sqrt(5) - 1) / 2


def fit_scale(nll: Callable[[float], float]) -> float:
    """
    Return the factor s, from 0.25 to 4, with the smallest `nll(s)`: the best of five, then golden-section search
    between its neighbours on a logarithmic scale, in ten evaluations. 1 is among them, so the result is never worse
    than no factor.

    Args:
        nll: of held-out data under the posterior with standard deviations s·σ, by the same draws for every s, so that
            it is a smooth function of s.

    Raises:
        ValueError: no evaluation was finite.
    """
    values = {scale: nll(scale) for scale in _COARSE}
    finite = {scale: value for scale, value in values.items() if math.isfinite(value)}
    if not finite:
        raise ValueError("The likelihood of the held-out data is zero or not a number for every width.")
    place = _COARSE.index(min(finite, key=finite.__getitem__))
    low, high = math.log(_COARSE[max(place - 1, 0)]), math.log(_COARSE[min(place + 1, len(_COARSE) - 1)])
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at = {x: _evaluated(values, nll, x) for x in (left, right)}
    for _ in range(_STEPS):
        if at[left] <= at[right]:
            high, right = right, left
            left = high - _GOLDEN * (high - low)
            at[left] = _evaluated(values, nll, left)
        else:
            low, left = left, right
            right = low + _GOLDEN * (high - low)
            at[right] = _evaluated(values, nll, right)
    return min((scale for scale in values if math.isfinite(values[scale])), key=values.__getitem__)


def _evaluated(values: dict[float, float], nll: Callable[[float], float], log_scale: float) -> float:
    scale = math.exp(log_scale)
    values[scale] = nll(scale)
    return values[scale] if math.isfinite(values[scale]) else math.inf
