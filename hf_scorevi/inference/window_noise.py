"""
Noise that is proportional to the variance of the window that a forecast is made from.

A series whose level and spread drift has noise that drifts along; forecasters that normalise each window know its
scale. The variance is s_h² (scale² + floor), one s_h² for each step of the horizon, in closed form the mean of
squared residual / (scale² + floor) over windows and channels. The floor keeps a window that is nearly constant from
being taken for one without noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .curvature import FORGETTING

__all__ = ["WindowNoise"]

_FLOOR = 0.1  # of the mean squared scale of a channel's training windows


class WindowNoise:
    """
    Learns s_h² and the floor from the residuals of training passes, averaged as `NoiseVariance`'s are.

    Attributes:
        factor: s_h², (H, 1), float64 on the CPU; `None` until something is known.
        floor: (C,), in squared units of the target.
    """

    def __init__(self, factor: Tensor | None = None, floor: Tensor | None = None) -> None:
        self.factor, self.floor = factor, floor
        self.steps = 0
        self._sums: list[Tensor] = []
        self._passes = 0

    @torch.no_grad()
    def observe(self, squares: Tensor, scale: Tensor) -> None:
        """Take in a pass: squared residuals, (B, H, C), and the windows' scales, (B, 1, C), in units of the target."""
        squared_scale = scale.float().square()
        floor = _FLOOR * squared_scale.mean((0, 1))
        known = floor if self.floor is None else self.floor.to(floor)
        relative = (squares.float() / (squared_scale + known)).mean((0, 2)).unsqueeze(1)
        found = [relative, floor]
        # to the device: a state that was loaded lies on the CPU
        self._sums = [a.to(b) + b for a, b in zip(self._sums, found, strict=True)] if self._sums else found
        self._passes += 1

    def observed(self) -> list[Tensor]:
        """The means over the passes since the last `update`, live, to be averaged over processes."""
        self._sums = [total / self._passes for total in self._sums]
        self._passes = 1
        return self._sums

    def update(self) -> None:
        """Move both by what was observed since the last time; what is not finite is left out."""
        found, self._sums = [(total / self._passes).double().cpu() for total in self._sums], []
        self._passes = 0
        if not found or not all(bool(value.isfinite().all()) for value in found):
            return
        tiny = torch.finfo(torch.float32).tiny
        factor, floor = (value.clamp_min(tiny) for value in found)
        rate = (FORGETTING + 1) / (self.steps + FORGETTING + 1)
        if self.steps and self.factor is not None and self.floor is not None:
            factor, floor = self.factor.lerp(factor, rate), self.floor.lerp(floor, rate)
        self.factor, self.floor = factor, floor
        self.steps += 1

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run continues from."""
        state = {"steps": torch.tensor(self.steps), "passes": torch.tensor(self._passes)}
        if self.factor is not None and self.floor is not None:
            state |= {"factor": self.factor, "floor": self.floor}
        return state | {f"sum.{i}": total for i, total in enumerate(self._sums)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """The inverse of `state_dict`."""
        self.steps, self._passes = int(state["steps"]), int(state["passes"])
        self.factor, self.floor = state.get("factor"), state.get("floor")
        self._sums = [state[f"sum.{i}"] for i in range(2) if f"sum.{i}" in state]
