"""Diagonal plus low rank: correlations within a tensor, never as a matrix of its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..noise import LOW_RANK_STREAM, mix, standard_normal
from .base import GaussianFamily
from .elementwise import PRECISION_RANGE

__all__ = ["LowRankGaussian", "Woodbury"]

# Size of the factor at the start, relative to √λ: small, but not zero, where its gradient would vanish.
_INITIAL_FACTOR = 0.1
# Largest entry of the factor relative to √d.
_MAX_FACTOR = 1e6


class Woodbury:
    """
    The algebra of Λ = D^½(I + V Vᵀ)D^½ with VᵀV = diag s, all in O(D R).

    Attributes:
        root: √d, (D,).
        basis: V, (D, R).
        s: (R,) float64.
        reduced: B = V(I + diag s)^(−½), with (I + VVᵀ)⁻¹ = I − BBᵀ, (D, R).
    """

    def __init__(self, diagonal: Tensor, factor: Tensor) -> None:
        self.root = diagonal.flatten().sqrt()
        relative = factor / self.root[:, None]
        gram = relative.double().T @ relative.double()
        values, vectors = torch.linalg.eigh(gram)
        self.s = values.clamp_min(0)
        self.basis = relative @ vectors.to(relative)
        self.reduced = self.basis * (1 + self.s).rsqrt().to(relative)

    def _function(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return f(I + VVᵀ) x = f(1) x + V [(f(1 + s) − f(1))/s] Vᵀ x, for x of shape (D,) or (D, k)."""
        one = function(torch.ones_like(self.s))
        weights = ((function(1 + self.s) - one) / self.s.clamp_min(torch.finfo(torch.float64).tiny)).to(x)
        inner = self.basis.T @ x
        return one[0].to(x) * x + self.basis @ (weights * inner if x.dim() == 1 else weights[:, None] * inner)

    def inverse_root(self, x: Tensor) -> Tensor:
        """Return D^(−½)(I + VVᵀ)^(−½) x, by a root of the covariance, for x of shape (D,)."""
        return self._function(torch.rsqrt, x) / self.root

    def solve(self, x: Tensor) -> Tensor:
        """Return Λ⁻¹x, for x of shape (D,) or (D, k)."""
        root = self.root if x.dim() == 1 else self.root[:, None]
        return self._function(torch.reciprocal, x / root) / root

    def inverse_diagonal(self) -> Tensor:
        """Return diag Λ⁻¹, (D,): no smaller than a share of 1/d that rounding cannot turn negative."""
        return (1 - self.reduced.square().sum(1)).clamp_min(1e-6) / self.root.square()

    def inverse_square_diagonal(self) -> Tensor:
        """Return diag Λ⁻², (D,)."""
        b, inverse = self.reduced / self.root[:, None], self.root.square().reciprocal()
        cross = b @ (b.T @ b)
        return (inverse.square() - 2 * inverse * b.square().sum(1) + (b * cross).sum(1)).clamp_min(0)

    def log_det(self) -> float:
        """Return log det Λ."""
        return (2 * self.root.log().sum(dtype=torch.float64) + self.s.log1p().sum()).item()


class LowRankGaussian(GaussianFamily):
    """
    Λ = diag d + U Uᵀ: d in `precision`, of the weight's shape, U in `factor`, (D, R).

    Its curvature, of a matrix C, is (diag ΣCΣ, CΣU) as one (D, 1 + R) tensor, Σ = Λ⁻¹: all that the gradient of
    KL(q‖p) by d and U asks of it. A known curvature is a₁Λ + a₂I, given as the tensor (a₁, a₂).
    """

    name = "low_rank"

    def __init__(self, params: Sequence[Tensor], precision: Sequence[float], rank: int) -> None:
        self.precision: list[Tensor] = []
        self.factor: list[Tensor] = []
        self._woodbury: dict[int, Woodbury] = {}
        for i, (p, value) in enumerate(zip(params, precision, strict=True)):
            self.precision.append(torch.full(p.shape, float(value), dtype=torch.float32, device=p.device))
            # Drawn on the CPU: the same start on every device.
            r = min(rank, p.numel())
            (start,) = standard_normal([(p.numel(), r)], torch.device("cpu"), mix(LOW_RANK_STREAM, i))
            self.factor.append((start * (_INITIAL_FACTOR * (value / p.numel()) ** 0.5)).to(p.device))

    @classmethod
    def shapes(cls, shape: torch.Size, rank: int) -> dict[str, torch.Size]:
        return {"": shape, ".factor": torch.Size((shape.numel(), min(rank, shape.numel())))}

    def state(self) -> dict[str, list[Tensor]]:
        self._woodbury.clear()  # the caller may write
        return {"": self.precision, ".factor": self.factor}

    @staticmethod
    def damage(suffix: str, value: Tensor) -> str | None:
        return "is not positive everywhere" if suffix == "" and not bool((value > 0).all()) else None

    def woodbury(self, i: int) -> Woodbury:
        """Return Λ's algebra, computed once after each change."""
        if i not in self._woodbury:
            self._woodbury[i] = Woodbury(self.precision[i], self.factor[i])
        return self._woodbury[i]

    def scale_noise_(self, noise: list[Tensor], index: Sequence[int]) -> None:
        for e, i in zip(noise, index, strict=True):
            e.copy_(self.woodbury(i).inverse_root(e.flatten()).view(e.shape))

    def multiply(self, i: int, x: Tensor) -> Tensor:
        flat = x.flatten()
        return (self.precision[i].flatten() * flat + self.factor[i] @ (self.factor[i].T @ flat)).view(x.shape)

    def diagonal(self, i: int) -> Tensor:
        return self.precision[i] + self.factor[i].square().sum(1).view(self.precision[i].shape)

    def variance(self, i: int) -> Tensor:
        return self.woodbury(i).inverse_diagonal().view(self.precision[i].shape)

    def log_det(self, i: int) -> float:
        return self.woodbury(i).log_det()

    def trace(self, i: int, other: GaussianFamily) -> float:
        assert isinstance(other, LowRankGaussian)
        woodbury, factor = self.woodbury(i), other.factor[i]
        by_diagonal = (other.precision[i].flatten() * woodbury.inverse_diagonal()).sum(dtype=torch.float64)
        return (by_diagonal + (factor * woodbury.solve(factor)).sum(dtype=torch.float64)).item()

    def correlate(self, grads: Sequence[Tensor], noise: list[Tensor], index: Sequence[int]) -> list[Tensor]:
        self.scale_noise_(noise, index)
        return [self._project(i, g.flatten(), v.flatten()) for g, v, i in zip(grads, noise, index, strict=True)]

    def known_part(self, noise: Sequence[Tensor], index: Sequence[int], curvature: Sequence[Tensor]) -> list[Tensor]:
        draws = [e.clone() for e in noise]
        self.scale_noise_(draws, index)
        parts = []
        for v, i, known in zip(draws, index, curvature, strict=True):
            a1, a2 = known.tolist()
            part = self._project(i, a1 * self.multiply(i, v).flatten() + a2 * v.flatten(), v.flatten())
            parts.append(part.sub_(self.identity_form(i, a2)).sub_(self.as_curvature(i), alpha=a1))
        return parts

    def curvature(self, i: int, statistic: Tensor | None, device: torch.device) -> Tensor:
        if statistic is None:
            return torch.zeros(self.factor[i].shape[0], 1 + self.factor[i].shape[1], device=device)
        return statistic

    def apply(self, i: int, curvature: Tensor, x: Tensor) -> Tensor:
        a1, a2 = curvature.tolist()
        return self.multiply(i, x).mul_(a1).add_(x, alpha=a2)

    def as_curvature(self, i: int) -> Tensor:
        """Return Λ in the form of a curvature: (diag Σ, U)."""
        return torch.cat([self.woodbury(i).inverse_diagonal()[:, None], self.factor[i]], 1)

    def identity_form(self, i: int, value: float) -> Tensor:
        """Return value·I in the form of a curvature: value·(diag Σ², ΣU)."""
        woodbury = self.woodbury(i)
        return torch.cat([woodbury.inverse_square_diagonal()[:, None], woodbury.solve(self.factor[i])], 1) * value

    def set_(self, i: int, diagonal: Tensor, factor: Tensor) -> None:
        """Store d, of shape (D,), and U within what float32 can hold."""
        diagonal = diagonal.clamp(*PRECISION_RANGE)
        limit = _MAX_FACTOR * diagonal.sqrt()[:, None]
        self.precision[i].copy_(diagonal.view(self.precision[i].shape))
        self.factor[i].copy_(torch.minimum(torch.maximum(factor, -limit), limit))
        self._woodbury.pop(i, None)

    def _project(self, i: int, g: Tensor, v: Tensor) -> Tensor:
        """Return (Σg ∘ v, g (vᵀU)), linear in g."""
        return torch.cat([(self.woodbury(i).solve(g) * v)[:, None], torch.outer(g, self.factor[i].T @ v)], 1)
