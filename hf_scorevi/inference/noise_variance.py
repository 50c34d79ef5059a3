"""
The variance of the observation noise of a Gaussian likelihood, known or learned.

For given q the ELBO is largest, in closed form, at σ² = E_q[mean squared residual], whatever the posterior's
temperature. Training passes, whose weights are draws of q, sample it. These samples are averaged as curvature is, with
polynomial weights that forget the beginning (`FORGETTING`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .curvature import FORGETTING

__all__ = ["GRANULARITIES", "NoiseVariance"]

# For each granularity, how many dimensions of an output, from the right, have variances apart.
GRANULARITIES = {"model": 0, "channel": 1, "horizon": 2, "element": 2}
# Of the mean variance: a constant channel, which is forecast exactly, must not outweigh all others.
_SMALLEST = 1e-4


class NoiseVariance:
    """
    σ² of a Gaussian likelihood, in squared units of the target: log p = −N · `scale` · (mean of `weights` · squared
    residual) + const, where the weights have the mean one.

    Args:
        granularity: of the variances, one for the `"model"` as a whole, each `"channel"` (last dimension), each
            step of the `"horizon"` (last but one), or each `"element"` (both).
        value: the variance, if it is known.
        learned: whether `update` moves it.

    Attributes:
        value: (), (C,), (H, 1) or (H, C), float64 on the CPU; `None` until something is known.
    """

    def __init__(self, granularity: str = "model", value: float | Tensor | None = None, learned: bool = True) -> None:
        self.granularity, self.learned = granularity, learned
        self.value = None if value is None else torch.as_tensor(value, dtype=torch.float64)
        self.steps = 0
        self._sum: Tensor | None = None
        self._passes = 0

    @property
    def scale(self) -> float:
        """½ mean 1/σ², the factor from mean squared residual to negative log-likelihood; ½ if σ² is not known."""
        return 0.5 if self.value is None else 0.5 * self.value.reciprocal().mean().item()

    @property
    def log_normaliser(self) -> float:
        """½ mean log 2πσ², the part of the negative log-likelihood without residuals, in nats."""
        logarithm = 0.0 if self.value is None else self.value.log().mean().item()
        return 0.5 * (logarithm + math.log(2 * math.pi))

    def weights(self, like: Tensor) -> Tensor | None:
        """Return the weights of squared residuals, on the device of `like`; `None` if all weigh the same."""
        if self.value is None or not self.value.dim():
            return None
        inverse = self.value.reciprocal()
        return (inverse / inverse.mean()).to(like)

    @torch.no_grad()
    def observe(self, squares: Tensor) -> None:
        """
        Take in the squared residuals of a pass, (B, ..., H, C), or, if the model has one variance, their mean.

        Raises:
            ValueError: they lack the dimensions of the granularity.
        """
        kept = GRANULARITIES[self.granularity]
        if squares.dim() < kept + (kept > 0):
            raise ValueError(
                f"Outputs of shape {tuple(squares.shape)} have no noise variance for each {self.granularity}; choose "
                "PosteriorConfig(noise_variance='model')."
            )
        squares = squares.float()
        if squares.dim() > kept:
            squares = squares.mean(tuple(range(squares.dim() - kept)))
        if self.granularity == "horizon":
            squares = squares.mean(-1, keepdim=True)
        # to the device: a state that was loaded lies on the CPU
        self._sum = squares if self._sum is None else self._sum.to(squares) + squares
        self._passes += 1

    def observed(self) -> list[Tensor]:
        """Return the mean over the passes since the last `update`, live, to be averaged over processes."""
        if self._sum is None or not self.learned:
            return []
        self._sum, self._passes = self._sum / self._passes, 1
        return [self._sum]

    def forget_observed(self) -> None:
        """Drop what passes have left that no `update` followed: the step was not taken."""
        self._sum, self._passes = None, 0

    def update(self) -> None:
        """Move σ² by what was observed since the last time; what is not finite is left out."""
        total, self._sum = self._sum, None
        if not self.learned or total is None:
            return
        estimate = (total / self._passes).double().cpu()
        self._passes = 0
        if not bool(estimate.isfinite().all()):
            return
        rate = (FORGETTING + 1) / (self.steps + FORGETTING + 1)
        value = estimate if self.steps == 0 or self.value is None else self.value.lerp(estimate, rate)
        smallest = max(_SMALLEST * value.mean().item(), torch.finfo(torch.float32).tiny)
        self.value = value.clamp_min(smallest)
        self.steps += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors from which a resumed run continues."""
        state = {"steps": torch.tensor(self.steps), "passes": torch.tensor(self._passes)}
        optional = {"value": self.value, "sum": self._sum}
        return state | {name: value for name, value in optional.items() if value is not None}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what `state_dict` returned."""
        self.steps, self._passes = int(state["steps"]), int(state["passes"])
        self.value, self._sum = state.get("value"), state.get("sum")
