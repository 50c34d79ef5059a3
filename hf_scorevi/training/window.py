"""The state of one optimizer step: which weights its passes draw, how they weigh, what statistic they leave."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..inference import ScoreStatistic
from ..posterior import mix
from ..posterior.noise import TRAINING_STREAM

__all__ = ["Window"]


@dataclass
class Window:
    """
    The state of one accumulation window (all micro-batches of one optimizer step).

    A new one is made at each step's beginning, so nothing of an aborted or skipped step survives.

    Attributes:
        seed: the run's seed.
        step: number of the optimizer step.
        statistic: collects gradient times noise on a curvature step, `None` on an ordinary one.
        rank: number of the process, or `None` to share one draw over micro-batches and processes.
        gradient_scale: the factor of a gradient scaler, which does not change within a window.
        shares: numbers of terms of the micro-batches over their mean, in all processes; `None` if these are not known.
    """

    seed: int
    step: int
    statistic: ScoreStatistic | None
    rank: int | None
    gradient_scale: float = 1.0
    shares: list[Tensor] | None = None
    micro_batch: int = 0
    complete: bool = False

    def noise_seed(self, sample: int) -> int:
        """Return the key of the noise of the present micro-batch and weight sample."""
        micro_batch, rank = (0, 0) if self.rank is None else (self.micro_batch, self.rank)
        return mix(TRAINING_STREAM, self.seed, self.step, micro_batch, sample, rank)

    @property
    def share(self) -> Tensor | None:
        """The share of the present micro-batch, if it is known."""
        return self.shares[self.micro_batch] if self.shares and self.micro_batch < len(self.shares) else None

    def loss_factor(self) -> float:
        """Return the share as a number, by which the mean loss counts, 1 if it is not known; waits for the device."""
        return 1.0 if self.share is None else self.share.item()
