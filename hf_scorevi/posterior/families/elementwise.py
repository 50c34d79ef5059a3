"""Independent weights: one precision a tensor, or one a weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .base import ClosedFormFamily, GaussianFamily

__all__ = ["DiagonalGaussian", "IsotropicGaussian"]

# What float32 can hold with room for its root and its product with a gradient.
PRECISION_RANGE = 1e-30, 1e30
# Numbers that a core works on at a time, so that a few arrays of them stay in its own cache; and a GPU, which has work
# enough with them, so that temporaries stay small.
_CPU_PIECE, _GPU_PIECE = 1 << 16, 1 << 22


def piece_size(device: torch.device) -> int:
    """Return how many numbers to work on at a time."""
    return _CPU_PIECE * torch.get_num_threads() if device.type == "cpu" else _GPU_PIECE


class _ElementwiseGaussian(ClosedFormFamily):
    """Λ = diag λ, with λ in `precision`, one float32 tensor each."""

    precision: list[Tensor]

    def state(self) -> dict[str, list[Tensor]]:
        return {"": self.precision}

    @staticmethod
    def damage(suffix: str, value: Tensor) -> str | None:
        return None if bool((value > 0).all()) else "is not positive everywhere"

    def multiply(self, i: int, x: Tensor) -> Tensor:
        return x * self.precision[i]

    def diagonal(self, i: int) -> Tensor:
        return self.precision[i]

    def variance(self, i: int) -> Tensor:
        return self.precision[i].reciprocal()

    def mean_variance(self, i: int) -> float:
        sums = torch.stack([piece.reciprocal().sum() for piece in self.pieces(self.precision[i])])
        return sums.double().sum().item() / max(self.precision[i].numel(), 1)

    def apply(self, i: int, curvature: Tensor, x: Tensor) -> Tensor:
        return x * curvature

    def stored(self, i: int) -> Tensor:
        return self.precision[i]

    def as_curvature(self, i: int) -> Tensor:
        return self.precision[i]

    @staticmethod
    def pieces(x: Tensor) -> Sequence[Tensor]:
        return x.view(-1).split(piece_size(x.device)) if x.dim() else (x,)

    @staticmethod
    def level(curvature: Tensor) -> Tensor:
        sums = torch.stack([piece.sum() for piece in _ElementwiseGaussian.pieces(curvature)])
        return sums.double().sum() / curvature.numel()

    @staticmethod
    def add_level_(curvature: Tensor, value: float) -> Tensor:
        return curvature.add_(value)

    @staticmethod
    def constant(like: Tensor, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=like.device)

    @staticmethod
    def spectral(curvature: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        return function(curvature)

    @staticmethod
    def relative_(stored: Tensor, curvature: Tensor) -> Tensor:
        return curvature.div_(stored) if curvature.shape == stored.shape else curvature / stored

    @staticmethod
    def scale_(stored: Tensor, relative: Tensor, function: Callable[[Tensor], Tensor]) -> None:
        stored.mul_(function(relative)).clamp_(*PRECISION_RANGE)

    @staticmethod
    def shift_log_std_(stored: Tensor, step: Tensor) -> None:
        stored.mul_(step.mul_(2).exp_()).clamp_(*PRECISION_RANGE)


class IsotropicGaussian(_ElementwiseGaussian):
    """
    One precision a tensor, of shape () and on the CPU, so that reading it never waits for a device. Its curvature is
    the mean over the tensor, float64.
    """

    name = "isotropic"

    def __init__(self, params: Sequence[Tensor], precision: Sequence[float], rank: int = 0) -> None:
        self.precision = [torch.tensor(float(value), dtype=torch.float32) for value in precision]

    @classmethod
    def shapes(cls, shape: torch.Size, rank: int = 0) -> dict[str, torch.Size]:
        return {"": torch.Size(())}

    def scale_noise_(self, noise: list[Tensor], index: Sequence[int]) -> None:
        torch._foreach_mul_(noise, [self.precision[i].item() ** -0.5 for i in index])

    def log_det(self, i: int) -> float:
        return self.shards.held[i] * self.precision[i].double().log().item()

    def trace(self, i: int, other: GaussianFamily) -> float:
        assert isinstance(other, IsotropicGaussian)
        return self.shards.held[i] * (other.precision[i].item() / self.precision[i].item())

    def correlate(self, grads: Sequence[Tensor], noise: list[Tensor], index: Sequence[int]) -> list[Tensor]:
        return [torch.dot(g.flatten(), e.flatten()).double() / g.numel() for g, e in zip(grads, noise, strict=True)]

    def known_part(self, noise: Sequence[Tensor], index: Sequence[int], curvature: Sequence[Tensor]) -> list[Tensor]:
        norms = torch._foreach_norm(list(noise))
        scales = [h.item() * self.precision[i].item() ** -0.5 for i, h in zip(index, curvature, strict=True)]
        terms = zip(norms, noise, scales, strict=True)
        return [(norm.double().square() / e.numel() - 1) * scale for norm, e, scale in terms]

    def curvature(self, i: int, statistic: Tensor | None, device: torch.device) -> Tensor:
        if statistic is None:
            return torch.zeros((), dtype=torch.float64, device=device)
        return statistic.mul_(self.precision[i].item() ** 0.5)


class DiagonalGaussian(_ElementwiseGaussian):
    """One precision a weight, of the weight's shape and on its device; so is its curvature."""

    name = "diagonal"

    def __init__(self, params: Sequence[Tensor], precision: Sequence[float], rank: int = 0) -> None:
        self.precision = [
            torch.full(p.shape, float(value), dtype=torch.float32, device=p.device)
            for p, value in zip(params, precision, strict=True)
        ]

    @classmethod
    def shapes(cls, shape: torch.Size, rank: int = 0) -> dict[str, torch.Size]:
        return {"": shape}

    def scale_noise_(self, noise: list[Tensor], index: Sequence[int]) -> None:
        torch._foreach_div_(noise, torch._foreach_sqrt([self.precision[i] for i in index]))

    def log_det(self, i: int) -> float:
        return self.precision[i].log().sum(dtype=torch.float64).item()

    def trace(self, i: int, other: GaussianFamily) -> float:
        assert isinstance(other, DiagonalGaussian)
        return (other.precision[i] / self.precision[i]).sum(dtype=torch.float64).item()

    def correlate(self, grads: Sequence[Tensor], noise: list[Tensor], index: Sequence[int]) -> list[Tensor]:
        torch._foreach_mul_(noise, list(grads))
        return noise

    def known_part(self, noise: Sequence[Tensor], index: Sequence[int], curvature: Sequence[Tensor]) -> list[Tensor]:
        parts = []
        for e, i, h in zip(noise, index, curvature, strict=True):
            parts.append(e.square().sub_(1).mul_(h).div_(self.precision[i].sqrt()))
        return parts

    def curvature(self, i: int, statistic: Tensor | None, device: torch.device) -> Tensor:
        if statistic is None:
            return torch.zeros_like(self.precision[i])
        return statistic.mul_(self.precision[i].sqrt())
