"""
From noisy curvature estimates to one that can be trusted: averaging, pooling, shrinkage.

The proximal step is convex in its statistic, so noise left in it would inflate the precision: average first, then
step. Within a fine-tuning run there is next to no signal per weight; what there is shows in the run itself, as spread
between weights beyond the spread that noise explains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["CurvatureAverage", "positive_mean"]

# Exponent of the averaging: estimate number u enters with weight about u^_FORGETTING. Curvature changes while the
# mean moves; polynomial weights forget the beginning, and still average over a constant share of the run (Shamir and
# Zhang, ICML 2013), so that the average converges.
_FORGETTING = 3


def positive_mean(estimate: Tensor, error: Tensor) -> Tensor:
    """
    The mean of a curvature that cannot be negative, given an unbiased `estimate` with standard deviation `error`.

    ½[x + √(x² + (8/π) e²)]: equal to the mean of a normal truncated at zero at x = 0 and for |x| ≫ e, smooth and
    close in between. A bad estimate thus keeps the posterior narrow (0.8 e or more), instead of opening it.
    """
    root = torch.hypot(estimate, math.sqrt(8 / math.pi) * error)
    return (estimate + root) / 2


class CurvatureAverage:
    """
    Running averages of curvature estimates x of the mean loss, in inverse squared units of the weights.

    Per tensor it keeps the mean of its pooled estimate and the variance of one such estimate; for families with a
    precision per weight also the mean per weight and one noise variance for all weights of the tensor. Variances come
    from innovations (what a new estimate differs by from the mean so far), so that change counts as noise.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.spread = 1.0  # variance of the running mean, in units of the variance of one estimate
        self.pool = torch.empty(0, dtype=torch.float64)
        self.pool_noise = torch.empty(0, dtype=torch.float64)
        self.detail: list[Tensor] = []
        self.detail_noise = torch.empty(0, dtype=torch.float64)

    @torch.no_grad()
    def update(self, estimates: list[Tensor]) -> None:
        """Take in one estimate for each tensor, of shape () or of the weight's; the tensors are used up."""
        detailed = estimates[0].dim() > 0
        pool = torch.stack([x.double().mean() for x in estimates]).cpu()
        if not bool(pool.isfinite().all()):
            raise FloatingPointError("A curvature estimate is not finite; the averages were left as they were.")
        rate = (_FORGETTING + 1) / (self.steps + _FORGETTING + 1)
        if self.steps == 0:
            self.pool, self.pool_noise = pool, torch.zeros_like(pool)
            if detailed:
                self.detail, self.detail_noise = [x.float() for x in estimates], torch.zeros_like(pool)
        else:
            first = self.steps == 1
            scale = 1 / (1 + self.spread)
            self.pool_noise = _blend(self.pool_noise, (pool - self.pool).square() * scale, 1.0 if first else rate)
            self.pool = _blend(self.pool, pool, rate)
            if detailed:
                for x, mean in zip(estimates, self.detail, strict=True):
                    x.sub_(mean)
                squares = torch.stack([x.double().square().mean() for x in estimates]).cpu()
                self.detail_noise = _blend(self.detail_noise, squares * scale, 1.0 if first else rate)
                torch._foreach_add_(self.detail, estimates, alpha=rate)
            self.spread = (1 - rate) ** 2 * self.spread + rate**2
        self.steps += 1

    def known(self) -> Callable[[int], Tensor] | None:
        """The best unbiased guess of the i-th tensor's curvature, pool + w (own mean − pool), once there is one."""
        if not self.ready:
            return None
        if not self.detail:
            return lambda i: self.pool[i]
        pool, shrinkage = self.pool.tolist(), self.shrinkage().tolist()
        return lambda i: self.detail[i].sub(pool[i]).mul_(shrinkage[i]).add_(pool[i])

    @property
    def ready(self) -> bool:
        """Whether the noise is known at all: from the second estimate on."""
        return self.steps > 1

    def state_dict(self) -> dict[str, Tensor]:
        """Everything, as tensors."""
        state = {
            "steps": torch.tensor(self.steps),
            "spread": torch.tensor(self.spread, dtype=torch.float64),
            "pool": self.pool,
            "pool_noise": self.pool_noise,
            "detail_noise": self.detail_noise,
        }
        return state | {f"detail.{i}": mean for i, mean in enumerate(self.detail)}

    def load_state_dict(self, state: dict[str, Tensor], devices: Sequence[torch.device]) -> None:
        """The inverse of `state_dict`; `devices` are those of the tensors."""
        self.steps = int(state["steps"])
        self.spread = float(state["spread"])
        self.pool, self.pool_noise = state["pool"], state["pool_noise"]
        self.detail_noise = state["detail_noise"]
        detailed = "detail.0" in state
        self.detail = [state[f"detail.{i}"].to(d, copy=True) for i, d in enumerate(devices)] if detailed else []

    def pooled(self) -> Tensor:
        """The curvature of each tensor, positive, float64 on the CPU."""
        return positive_mean(self.pool, (self.spread * self.pool_noise).sqrt())

    def shrinkage(self) -> Tensor:
        """
        The weight w in [0, 1) that each tensor's per-weight means get against the pool.

        1 − noise/between-variance would be the empirical-Bayes estimate. The noise counts double, so that a tensor
        gets detail only once the signal clearly exceeds what noise (or drift) could fake.
        """
        noise = self.spread * self.detail_noise
        between = torch.stack(
            [(mean.double() - pool).square().mean().cpu() for mean, pool in zip(self.detail, self.pool, strict=True)]
        )
        signal = (between - 2 * noise).clamp_min(0)
        return signal / (signal + noise).clamp_min(torch.finfo(torch.float64).tiny)

    def per_weight(self) -> list[Tensor]:
        """(1 − w)·pool + w·own mean, both made positive, in the weights' shapes, float32."""
        errors = (self.spread * self.detail_noise).sqrt()
        result = []
        for mean, pool, weight, error in zip(self.detail, self.pooled(), self.shrinkage(), errors, strict=True):
            w = weight.item()
            own = positive_mean(mean, error.to(mean)) if w > 0 else mean
            result.append(own.mul(w).add_((1 - w) * pool.item()))
        return result


def _blend(old: Tensor, new: Tensor, rate: float) -> Tensor:
    return old + rate * (new - old)
