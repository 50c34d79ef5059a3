"""What a Gaussian family is: how a precision is stored, scales noise, and is correlated with a gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ..shards import Shards

__all__ = ["ClosedFormFamily", "GaussianFamily"]


class GaussianFamily(ABC):
    """
    Precision matrices Λ of independent Gaussian factors, one a tensor; `i` and `index` below are positions in the list
    of tensors. A family holds the precisions and nothing else: the means are the weights themselves.

    Curvature has a family's form: what of a symmetric matrix it can represent. `correlate` gives it from gradients,
    linearly, so that mini-batches, passes and ranks can be summed in any order.
    """

    name: ClassVar[str]
    shards: Shards = Shards(())
    """Which parts of the weights the precisions are of: a `Posterior` sets it."""

    @abstractmethod
    def __init__(self, params: Sequence[Tensor], precision: Sequence[float], rank: int) -> None:
        """Start tensor j at `precision[j]` times the identity; `rank` is for families that have one."""

    @staticmethod
    def problem(shape: torch.Size) -> str | None:
        """Why a tensor of this shape cannot have a factor of this family, with the remedy; None if it can."""
        return None

    @classmethod
    @abstractmethod
    def shapes(cls, shape: torch.Size, rank: int) -> dict[str, torch.Size]:
        """The shapes that `state()` has for a tensor of shape `shape`, by suffix."""

    @abstractmethod
    def state(self) -> dict[str, list[Tensor]]:
        """The live tensors by the suffix that their weight's name has in a checkpoint."""

    @staticmethod
    @abstractmethod
    def damage(suffix: str, value: Tensor) -> str | None:
        """What makes a finite tensor of the right shape unfit as `state()[suffix]`; None if it is fit."""

    def to_params_device(self, params: Sequence[Tensor]) -> None:
        """Move what has a value per weight to where the weights are."""
        for values in self.state().values():
            values[:] = [v.to(p.device) if v.dim() else v for v, p in zip(values, params, strict=True)]

    # The Gaussian

    @abstractmethod
    def scale_noise_(self, noise: list[Tensor], index: Sequence[int]) -> None:
        """ε → Λ^(−½)ε in place, for the tensors at `index`."""

    @abstractmethod
    def multiply(self, i: int, x: Tensor) -> Tensor:
        """Λ x, in the weight's shape."""

    @abstractmethod
    def diagonal(self, i: int) -> Tensor:
        """The precision of each weight given the others, shape () if it is one for all, otherwise the weight's."""

    @abstractmethod
    def variance(self, i: int) -> Tensor:
        """The variance of each weight, shape () if it is one for all, otherwise the weight's."""

    def mean_variance(self, i: int) -> float:
        """The mean over the weights' variances."""
        return self.variance(i).mean(dtype=torch.float64).item()

    @abstractmethod
    def log_det(self, i: int) -> float:
        """log det Λ."""

    @abstractmethod
    def trace(self, i: int, other: GaussianFamily) -> float:
        """tr(Λ_other Λ⁻¹), for another of the same family."""

    # Its curvature statistic

    @abstractmethod
    def correlate(self, grads: Sequence[Tensor], noise: list[Tensor], index: Sequence[int]) -> list[Tensor]:
        """What of g·εᵀ this family can use, for gradients at Λ^(−½)ε. `noise` is used up."""

    @abstractmethod
    def known_part(self, noise: Sequence[Tensor], index: Sequence[int], curvature: Sequence[Tensor]) -> list[Tensor]:
        """
        In the form of `correlate`: what the noise of ε εᵀ itself adds if the curvature is `curvature`. Mean zero.
        """

    @abstractmethod
    def curvature(self, i: int, statistic: Tensor | None, device: torch.device) -> Tensor:
        """
        The unbiased curvature from the mean of `correlate`'s results, by Stein's identity E_q[∂²ℓ] = E_q[∂ℓ εᵀ]Λ^½;
        zero for None. The statistic is used up.
        """

    @abstractmethod
    def apply(self, i: int, curvature: Tensor, x: Tensor) -> Tensor:
        """A known curvature times x, in the weight's shape."""


class ClosedFormFamily(GaussianFamily):
    """
    A family in which the proximal step has a closed form: one tensor `own(i)` makes up each Λ, and curvature has the
    form of a Λ. The arithmetic below also takes matching pieces of both, so that temporaries stay small.
    """

    is_matrix: ClassVar[bool] = False

    @abstractmethod
    def own(self, i: int) -> Tensor:
        """The live tensor that makes up Λ."""

    @abstractmethod
    def as_curvature(self, i: int) -> Tensor:
        """Λ in the form of a curvature."""

    @staticmethod
    @abstractmethod
    def pieces(x: Tensor) -> Sequence[Tensor]:
        """Views that make up `own(i)` or a curvature: of a size that a CPU's cache holds."""

    @staticmethod
    @abstractmethod
    def level(curvature: Tensor) -> Tensor:
        """The mean over the diagonal, a float64 scalar on its device."""

    @staticmethod
    @abstractmethod
    def add_level_(curvature: Tensor, value: float) -> Tensor:
        """curvature + value·I, in place."""

    @staticmethod
    @abstractmethod
    def constant(like: Tensor, value: float) -> Tensor:
        """value·I as a curvature that goes with pieces like `like`."""

    @staticmethod
    @abstractmethod
    def spectral(curvature: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A new tensor, the function of a curvature (of its eigenvalues, where it is a matrix)."""

    @staticmethod
    @abstractmethod
    def relative_(own: Tensor, curvature: Tensor) -> Tensor:
        """The curvature whitened by Λ: curvature/λ, or R⁻¹ C R⁻ᵀ with Λ = R Rᵀ. The argument is used up."""

    @staticmethod
    @abstractmethod
    def scale_(own: Tensor, relative: Tensor, function: Callable[[Tensor], Tensor]) -> None:
        """λ ← λ·function(relative), or Λ ← R f(relative) Rᵀ with f on the eigenvalues; `relative` is used up."""

    @staticmethod
    @abstractmethod
    def shift_log_std_(own: Tensor, step: Tensor) -> None:
        """log σ ← log σ − step, or R ← R(I + step) with the diagonal exponentiated; `step` is used up."""
