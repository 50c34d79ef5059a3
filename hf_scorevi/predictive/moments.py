"""Mean and variance over draws, streamed."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Moments"]


class Moments:
    """
    Mean and variance over draws of outputs of one shape; keeps two tables, not one a draw.

    Source: Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 4 (1962).
    """

    def __init__(self) -> None:
        self.num_samples = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, outputs: Tensor) -> None:
        """Take in one draw."""
        outputs = outputs.float()
        self.num_samples += 1
        if self._mean is None or self._squares is None:
            self._mean, self._squares = outputs.clone(), torch.zeros_like(outputs)
            return
        before = outputs - self._mean
        self._mean += before / self.num_samples
        self._squares.addcmul_(before, outputs - self._mean)

    @property
    def mean(self) -> Tensor:
        """The mean over draws, in the outputs' shape."""
        if self._mean is None:
            raise ValueError("No draw was added yet.")
        return self._mean

    @property
    def variance(self) -> Tensor:
        """The unbiased variance over draws, divided by S − 1; zero after a single draw."""
        if self._squares is None:
            raise ValueError("No draw was added yet.")
        return self._squares / max(self.num_samples - 1, 1)
