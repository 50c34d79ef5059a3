"""
From noisy curvature estimates to one that can be trusted: averaging, pooling, shrinkage.

The proximal step is convex in its statistic, so noise left in it would inflate the precision: average first, then
step. Within a fine-tuning run there is next to no signal per weight; what there is shows in the run itself, as spread
between weights beyond the spread that noise explains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ..posterior import ClosedFormFamily

__all__ = ["FORGETTING", "CurvatureAverage", "positive_mean"]

# Exponent of the averaging: estimate number u enters with weight about u^FORGETTING. Curvature changes while the
# mean moves; polynomial weights forget the beginning, and still average over a constant share of the run (Shamir and
# Zhang, ICML 2013), so that the average converges.
FORGETTING = 3
# An absurd target is clipped to this, so that float32 can hold it.
_LARGEST = 1e30


def positive_mean(estimate: Tensor, error: Tensor | float) -> Tensor:
    """
    Return the mean of a curvature that cannot be negative, from an unbiased `estimate` of standard deviation `error`.

    ½[x + √(x² + (8/π) e²)]: equal to the mean of a normal truncated at zero at x = 0 and for |x| ≫ e, smooth and
    close in between. A bad estimate thus keeps the posterior narrow (0.8 e or more), instead of opening it.
    """
    square = (8 / math.pi) * error**2
    return (estimate * estimate).add_(square).sqrt_().add_(estimate).mul_(0.5)


class CurvatureAverage:
    """
    Keep running averages of curvature estimates x of the mean loss, in inverse squared units of the weights.

    Per tensor it keeps the mean of its pooled estimate (its level) and the variance of one such estimate; where a
    tensor has more than one number also their means and one noise variance for all. Variances come from innovations
    (what a new estimate differs by from the mean so far), so that change counts as noise.
    """

    def __init__(self, family: ClosedFormFamily) -> None:
        self.family = family
        self.steps = 0
        self.spread = 1.0  # variance of the running mean, in units of the variance of one estimate
        self.pool = torch.empty(0, dtype=torch.float64)
        self.pool_noise = torch.empty(0, dtype=torch.float64)
        self.detail: list[Tensor] = []
        self.detail_noise = torch.empty(0, dtype=torch.float64)
        self._shrinkage: Tensor | None = None

    @torch.no_grad()
    def update(self, estimates: list[Tensor]) -> None:
        """
        Take in one estimate for each tensor, overwriting it.

        Raises:
            FloatingPointError: an estimate is not finite; nothing was changed.
        """
        pool = self._mean(self.family.level(x) for x in estimates)
        if not bool(pool.isfinite().all()):
            raise FloatingPointError("A curvature estimate is not finite; the averages were left as they were.")
        detailed = estimates[0].dim() > 0
        rate = (FORGETTING + 1) / (self.steps + FORGETTING + 1)
        if self.steps == 0:
            self.pool, self.pool_noise = pool, torch.zeros_like(pool)
            if detailed:
                self.detail, self.detail_noise = list(estimates), torch.zeros_like(pool)
        else:
            noise_rate = 1.0 if self.steps == 1 else rate
            scale = 1 / (1 + self.spread)
            self.pool_noise = _blend(self.pool_noise, (pool - self.pool).square() * scale, noise_rate)
            self.pool = _blend(self.pool, pool, rate)
            if detailed:
                squares = self._mean(
                    self._innovate_(x, mean, rate) for x, mean in zip(estimates, self.detail, strict=True)
                )
                self.detail_noise = _blend(self.detail_noise, squares * scale, noise_rate)
            self.spread = (1 - rate) ** 2 * self.spread + rate**2
        self.steps += 1
        self._shrinkage = None

    def _innovate_(self, x: Tensor, mean: Tensor, rate: float) -> Tensor:
        """Set mean ← mean + rate (x − mean), and return the mean square of x − mean."""
        squares = []
        for piece, old in zip(self.family.pieces(x), self.family.pieces(mean), strict=True):
            squares.append(_square_sum(piece.sub_(old)))
            old.add_(piece, alpha=rate)
        return torch.stack(squares).double().sum() / max(x.numel(), 1)

    def _mean(self, parts: Iterable[Tensor]) -> Tensor:
        """Return (tensors,) on the CPU, from a mean over each tensor or over this process's part of it."""
        return self.family.shards.mean(torch.stack(list(parts)).cpu())

    def known(self) -> Callable[[int], Tensor] | None:
        """Return the best unbiased guess of the i-th tensor's curvature, pool + w (mean − pool), once there is one."""
        if not self.ready:
            return None
        if not self.detail:
            return lambda i: self.pool[i]
        pool, shrinkage = self.pool.tolist(), self.shrinkage().tolist()
        return lambda i: self.family.add_level_(self.detail[i].mul(shrinkage[i]), (1 - shrinkage[i]) * pool[i])

    @property
    def ready(self) -> bool:
        """Whether the noise is known at all: from the second estimate on."""
        return self.steps > 1

    def state_dict(self) -> dict[str, Tensor]:
        """Return all averages as tensors; collective if weights are split."""
        state = {
            "steps": torch.tensor(self.steps),
            "spread": torch.tensor(self.spread, dtype=torch.float64),
            "pool": self.pool,
            "pool_noise": self.pool_noise,
            "detail_noise": self.detail_noise,
        }
        return state | {f"detail.{i}": self.family.shards.whole(i, mean) for i, mean in enumerate(self.detail)}

    def load_state_dict(self, state: dict[str, Tensor], devices: Sequence[torch.device]) -> None:
        """Take over what `state_dict` returned; `devices` are those of the tensors."""
        self.steps = int(state["steps"])
        self.spread = float(state["spread"])
        self.pool, self.pool_noise = state["pool"], state["pool_noise"]
        self.detail_noise = state["detail_noise"]
        detailed = "detail.0" in state
        part = self.family.shards.part
        self.detail = [part(i, state[f"detail.{i}"]).to(d, copy=True) for i, d in enumerate(devices) if detailed]
        self._shrinkage = None

    def error(self) -> Tensor:
        """Return the standard deviation of each tensor's level, (tensors,)."""
        return (self.spread * self.pool_noise).sqrt()

    def level(self) -> Tensor:
        """Return the level of each tensor's curvature, positive, (tensors,) float64 on the CPU."""
        return positive_mean(self.pool, self.error())

    @torch.no_grad()
    def shrinkage(self) -> Tensor:
        """
        Return the weight w in [0, 1) of each tensor's detailed means against the pool, (tensors,).

        1 − noise/between-variance would be the empirical-Bayes estimate. The noise counts double, so that a tensor
        gets detail only once the signal clearly exceeds what noise (or drift) could fake.
        """
        if self._shrinkage is None:
            noise = self.spread * self.detail_noise
            squares = self._mean(self._mean_square(mean) for mean in self.detail)
            # The mean square of mean − pool·I; the level of the mean is the pool, but for rounding.
            rows = torch.tensor([mean.shape[-1] if self.family.is_matrix else 1 for mean in self.detail])
            between = (squares - self.pool.square() / rows).clamp_min(0)
            signal = (between - 2 * noise).clamp_min(0)
            share = signal / (signal + noise).clamp_min(torch.finfo(torch.float64).tiny)
            self._shrinkage = share.nan_to_num(0.0)  # after an overflow
        return self._shrinkage

    def _mean_square(self, x: Tensor) -> Tensor:
        return torch.stack([_square_sum(piece) for piece in self.family.pieces(x)]).double().sum() / max(x.numel(), 1)

    def targets(self, i: int, level: float, weight: float, prior: float) -> Iterator[Tensor]:
        """
        Yield weight · [(1 − w) level + w · mean] + prior of tensor i, the detailed mean made positive too, in new
        pieces as the family has them; of shape () where it is one number for all weights of a piece.
        """
        if not self.detail:
            yield torch.tensor(weight * level + prior, dtype=torch.float64)
            return
        w = self.shrinkage()[i].item()
        error = math.sqrt(self.spread * self.detail_noise[i].item())
        if self.family.is_matrix:  # the root mean square of the noise's eigenvalues
            error *= self.detail[i].shape[-1] ** 0.5
        rest = min(weight * (1 - w) * level + prior, _LARGEST)
        for mean in self.family.pieces(self.detail[i]):
            if w > 0:
                detail = self.family.spectral(mean, lambda x: positive_mean(x, error)).mul_(weight * w)
                yield self.family.add_level_(detail, rest)
            else:
                yield self.family.constant(mean, rest)


def _square_sum(x: Tensor) -> Tensor:
    flat = x.view(-1)
    return torch.dot(flat, flat)


def _blend(old: Tensor, new: Tensor, rate: float) -> Tensor:
    return old + rate * (new - old)
