"""The interface of a Gaussian family: how a precision is stored, scales noise, and gets curvature from gradients."""

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
    """The parts of the weights that the precisions belong to; set by `Posterior`."""

    @abstractmethod
    def __init__(self, params: Sequence[Tensor], precision: Sequence[float], rank: int) -> None:
        """Start tensor j at `precision[j]` times the identity; `rank` is for families that have one."""

    @staticmethod
    def problem(shape: torch.Size) -> str | None:
        """Return why a tensor of this shape cannot have a factor of this family, with the remedy; `None` if it can."""
        return None

    @classmethod
    @abstractmethod
    def shapes(cls, shape: torch.Size, rank: int) -> dict[str, torch.Size]:
        """Return the shapes that `state()` has for a tensor of shape `shape`, by suffix."""

    @abstractmethod
    def state(self) -> dict[str, list[Tensor]]:
        """Return the live tensors by the suffix that their weight's name has in a checkpoint."""

    @staticmethod
    @abstractmethod
    def damage(suffix: str, value: Tensor) -> str | None:
        """Return why a finite tensor of the right shape cannot be `state()[suffix]`; `None` if it can."""

    def to_params_device(self, params: Sequence[Tensor]) -> None:
        """Move what has a value per weight to where the weights are."""
        for values in self.state().values():
            values[:] = [v.to(p.device) if v.dim() else v for v, p in zip(values, params, strict=True)]

    # The Gaussian

    @abstractmethod
    def scale_noise_(self, noise: list[Tensor], index: Sequence[int]) -> None:
        """Turn ε into Λ^(−½)ε in place, for the tensors at `index`."""

    @abstractmethod
    def multiply(self, i: int, x: Tensor) -> Tensor:
        """Return Λ x, in the weight's shape."""

    @abstractmethod
    def diagonal(self, i: int) -> Tensor:
        """Return each weight's precision given the others, shape () if it is one for all, otherwise the weight's."""

    @abstractmethod
    def variance(self, i: int) -> Tensor:
        """Return the variance of each weight, shape () if it is one for all, otherwise the weight's."""

    def mean_variance(self, i: int) -> float:
        """Return the mean over the weights' variances."""
        return self.variance(i).mean(dtype=torch.float64).item()

    @abstractmethod
    def log_det(self, i: int) -> float:
        """Return log det Λ."""

    @abstractmethod
    def trace(self, i: int, other: GaussianFamily) -> float:
        """Return tr(Λ_other Λ⁻¹), for another of the same family."""

    # Its curvature statistic

    @abstractmethod
    def correlate(self, grads: Sequence[Tensor], noise: list[Tensor], index: Sequence[int]) -> list[Tensor]:
        """Return the part of g·εᵀ that this family uses, for gradients at Λ^(−½)ε. Overwrites `noise`."""

    @abstractmethod
    def known_part(self, noise: Sequence[Tensor], index: Sequence[int], curvature: Sequence[Tensor]) -> list[Tensor]:
        """Return what fluctuations of ε εᵀ add to `correlate` if the curvature is `curvature`; their mean is zero."""

    @abstractmethod
    def curvature(self, i: int, statistic: Tensor | None, device: torch.device) -> Tensor:
        """
        Return the unbiased curvature from the mean of `correlate`'s results, by Stein's identity
        E_q[∂²ℓ] = E_q[∂ℓ εᵀ]Λ^½; zero for `None`. Overwrites `statistic`.
        """

    @abstractmethod
    def apply(self, i: int, curvature: Tensor, x: Tensor) -> Tensor:
        """Return a known curvature times x, in the weight's shape."""


class ClosedFormFamily(GaussianFamily):
    """
    A family in which the proximal step has a closed form: each Λ is stored as one tensor, and curvature has the form
    of a Λ. The arithmetic below also takes matching pieces of both, so that temporaries stay small.
    """

    is_matrix: ClassVar[bool] = False

    @abstractmethod
    def stored(self, i: int) -> Tensor:
        """Return the live tensor that Λ is stored as."""

    @abstractmethod
    def as_curvature(self, i: int) -> Tensor:
        """Return Λ in the form of a curvature."""

    @staticmethod
    @abstractmethod
    def pieces(x: Tensor) -> Sequence[Tensor]:
        """Return views that make up `stored(i)` or a curvature, of a size that a CPU's cache holds."""

    @staticmethod
    @abstractmethod
    def level(curvature: Tensor) -> Tensor:
        """Return the mean over the diagonal, a float64 scalar on its device."""

    @staticmethod
    @abstractmethod
    def add_level_(curvature: Tensor, value: float) -> Tensor:
        """Return curvature + value·I, in place."""

    @staticmethod
    @abstractmethod
    def constant(like: Tensor, value: float) -> Tensor:
        """Return value·I as a curvature that goes with pieces like `like`."""

    @staticmethod
    @abstractmethod
    def spectral(curvature: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the function of a curvature (of its eigenvalues, where it is a matrix), a new tensor."""

    @staticmethod
    @abstractmethod
    def relative_(stored: Tensor, curvature: Tensor) -> Tensor:
        """Return the curvature whitened by Λ: curvature/λ, or R⁻¹ C R⁻ᵀ with Λ = R Rᵀ. Overwrites `curvature`."""

    @staticmethod
    @abstractmethod
    def scale_(stored: Tensor, relative: Tensor, function: Callable[[Tensor], Tensor]) -> None:
        """Set λ ← λ·f(relative), or Λ ← R f(relative) Rᵀ with f on the eigenvalues. Overwrites `relative`."""

    @staticmethod
    @abstractmethod
    def shift_log_std_(stored: Tensor, step: Tensor) -> None:
        """Set log σ ← log σ − step, or R ← R(I + step) with the diagonal exponentiated. Overwrites `step`."""
