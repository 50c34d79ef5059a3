"""
The Gaussian families: how a precision is stored, scales noise, and is correlated with a gradient.

A family holds the precisions of a list of tensors and nothing else. Its statistic is linear in the gradient, so
that mini-batches, passes and ranks can be summed in any order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["FAMILIES", "DiagonalGaussian", "GaussianFamily", "IsotropicGaussian"]


class GaussianFamily(ABC):
    """
    Precisions λ of one Gaussian factor per tensor; all indices below are positions in the list of tensors.

    `precision` is a list with one float32 tensor for each: of shape () for `isotropic` (on the CPU, so that reading it
    never waits for a device), of the weight's shape for `diagonal` (on the weight's device).
    """

    name: str
    precision: list[Tensor]

    @abstractmethod
    def __init__(self, params: Sequence[Tensor], precision: Sequence[float]) -> None:
        """Start every weight of tensor j at `precision[j]`."""

    @abstractmethod
    def scale_noise_(self, noise: list[Tensor], index: Sequence[int]) -> None:
        """ε → ε/√λ in place, for the tensors at `index`."""

    @abstractmethod
    def correlate(self, grads: Sequence[Tensor], noise: Sequence[Tensor]) -> list[Tensor]:
        """
        What g·ε this family can use: per tensor its mean, a float64 scalar on the device (`isotropic`), or the product
        itself (`diagonal`, written into `noise`).
        """

    @abstractmethod
    def known_part(self, noise: Sequence[Tensor], index: Sequence[int], curvature: Sequence[Tensor]) -> list[Tensor]:
        """
        σ·curvature·(ε² − 1), in the form of `correlate`: what the noise of ε² itself adds to gε if the curvature is
        `curvature`. Zero on average.
        """

    @abstractmethod
    def divide_by_std_(self, statistic: list[Tensor]) -> None:
        """E[gε] → E[gε]/σ in place: Stein's identity, E_q[∂²ℓ] = E_q[∂ℓ ε]/σ."""

    def to_params_device(self, params: Sequence[Tensor]) -> None:
        """Move what has a value per weight to where the weights are."""
        self.precision = [v.to(p.device) if v.dim() else v for v, p in zip(self.precision, params, strict=True)]


class IsotropicGaussian(GaussianFamily):
    """One precision a tensor."""

    name = "isotropic"

    def __init__(self, params: Sequence[Tensor], precision: Sequence[float]) -> None:
        self.precision = [torch.tensor(float(value), dtype=torch.float32) for value in precision]

    def scale_noise_(self, noise: list[Tensor], index: Sequence[int]) -> None:
        torch._foreach_mul_(noise, [self.precision[i].item() ** -0.5 for i in index])

    def correlate(self, grads: Sequence[Tensor], noise: Sequence[Tensor]) -> list[Tensor]:
        return [torch.dot(g.flatten(), e.flatten()).double() / g.numel() for g, e in zip(grads, noise, strict=True)]

    def known_part(self, noise: Sequence[Tensor], index: Sequence[int], curvature: Sequence[Tensor]) -> list[Tensor]:
        norms = torch._foreach_norm(list(noise))
        scales = [h.item() * self.precision[i].item() ** -0.5 for i, h in zip(index, curvature, strict=True)]
        terms = zip(norms, noise, scales, strict=True)
        return [(norm.double().square() / e.numel() - 1) * scale for norm, e, scale in terms]

    def divide_by_std_(self, statistic: list[Tensor]) -> None:
        torch._foreach_mul_(statistic, [precision.item() ** 0.5 for precision in self.precision])


class DiagonalGaussian(GaussianFamily):
    """One precision a weight."""

    name = "diagonal"

    def __init__(self, params: Sequence[Tensor], precision: Sequence[float]) -> None:
        self.precision = [
            torch.full_like(p, float(value), dtype=torch.float32) for p, value in zip(params, precision, strict=True)
        ]

    def scale_noise_(self, noise: list[Tensor], index: Sequence[int]) -> None:
        torch._foreach_div_(noise, torch._foreach_sqrt([self.precision[i] for i in index]))

    def correlate(self, grads: Sequence[Tensor], noise: Sequence[Tensor]) -> list[Tensor]:
        products = list(noise)
        torch._foreach_mul_(products, list(grads))
        return products

    def known_part(self, noise: Sequence[Tensor], index: Sequence[int], curvature: Sequence[Tensor]) -> list[Tensor]:
        parts = []
        for e, i, h in zip(noise, index, curvature, strict=True):
            parts.append(e.square().sub_(1).mul_(h).div_(self.precision[i].sqrt()))
        return parts

    def divide_by_std_(self, statistic: list[Tensor]) -> None:
        for value, precision in zip(statistic, self.precision, strict=True):
            value.mul_(precision.sqrt())


FAMILIES: dict[str, type[GaussianFamily]] = {f.name: f for f in (IsotropicGaussian, DiagonalGaussian)}
