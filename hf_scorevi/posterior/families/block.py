"""Dense blocks: small ones within a tensor, made for LoRA, or one for each tensor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .base import ClosedFormFamily, GaussianFamily
from .elementwise import PRECISION_RANGE, piece_size

__all__ = ["BlockDiagonalGaussian", "FullGaussian"]

_MAX_BLOCK = 64
_MAX_FULL = 4096

_OVERFLOW = 1e30, -1e30  # what stands for infinities after an overflow
_STD_RANGE = PRECISION_RANGE[0] ** 0.5, PRECISION_RANGE[1] ** 0.5


class _BlockGaussian(ClosedFormFamily):
    """
    A tensor seen as n independent vectors of r weights, each with Λ = R Rᵀ.

    `factor` holds the lower triangular R, (n, r, r) float32 for each tensor: whatever it holds with a positive
    diagonal is a precision. Curvature has the same shape, symmetric.
    """

    is_matrix = True
    factor: list[Tensor]

    def __init__(self, params: Sequence[Tensor], precision: Sequence[float], rank: int = 0) -> None:
        self._shapes = [p.shape for p in params]
        self.factor = []
        for p, value in zip(params, precision, strict=True):
            n, r = self.split(p).shape
            self.factor.append((torch.eye(r, device=p.device) * float(value) ** 0.5).repeat(n, 1, 1))

    @staticmethod
    @abstractmethod
    def split(x: Tensor) -> Tensor:
        """Return a tensor of the weight's shape as (n, r)."""

    @staticmethod
    @abstractmethod
    def merge(blocks: Tensor, shape: torch.Size) -> Tensor:
        """Return a tensor of the weight's shape from (n, r), the inverse of `split`."""

    @classmethod
    def shapes(cls, shape: torch.Size, rank: int = 0) -> dict[str, torch.Size]:
        n, r = cls.split(torch.empty(shape, device="meta")).shape
        return {".factor": torch.Size((n, r, r))}

    def state(self) -> dict[str, list[Tensor]]:
        return {".factor": self.factor}

    @staticmethod
    def damage(suffix: str, value: Tensor) -> str | None:
        if not bool((value.diagonal(dim1=-2, dim2=-1) > 0).all()):
            return "has a diagonal that is not positive everywhere"
        return None if bool((value.triu(1) == 0).all()) else "is not lower triangular"

    def scale_noise_(self, noise: list[Tensor], index: Sequence[int]) -> None:
        for e, i in zip(noise, index, strict=True):
            upper = self.factor[i].transpose(-2, -1)
            scaled = torch.linalg.solve_triangular(upper, self.split(e)[..., None], upper=True)[..., 0]
            e.copy_(self.merge(scaled, e.shape))

    def multiply(self, i: int, x: Tensor) -> Tensor:
        factor = self.factor[i]
        blocks = factor @ (factor.transpose(-2, -1) @ self.split(x)[..., None])
        return self.merge(blocks[..., 0], x.shape)

    def diagonal(self, i: int) -> Tensor:
        return self.merge(self.factor[i].square().sum(-1), self._shapes[i])

    def variance(self, i: int) -> Tensor:
        return self.merge(_inverse(self.factor[i]).square().sum(-2), self._shapes[i])

    def log_det(self, i: int) -> float:
        return 2 * self.factor[i].diagonal(dim1=-2, dim2=-1).log().sum(dtype=torch.float64).item()

    def trace(self, i: int, other: GaussianFamily) -> float:
        assert isinstance(other, _BlockGaussian)
        relative = torch.linalg.solve_triangular(self.factor[i], other.factor[i], upper=False)
        return relative.square().sum(dtype=torch.float64).item()

    def correlate(self, grads: Sequence[Tensor], noise: list[Tensor], index: Sequence[int]) -> list[Tensor]:
        return [self.split(g)[..., None] * self.split(e)[:, None] for g, e in zip(grads, noise, strict=True)]

    def known_part(self, noise: Sequence[Tensor], index: Sequence[int], curvature: Sequence[Tensor]) -> list[Tensor]:
        parts = []
        for e, i, h in zip(noise, index, curvature, strict=True):
            blocks = self.split(e)
            fluctuation = blocks[..., None] * blocks[:, None]
            fluctuation.diagonal(dim1=-2, dim2=-1).sub_(1)
            upper = self.factor[i].transpose(-2, -1)
            parts.append(h @ torch.linalg.solve_triangular(upper, fluctuation, upper=True))
        return parts

    def curvature(self, i: int, statistic: Tensor | None, device: torch.device) -> Tensor:
        if statistic is None:
            return torch.zeros_like(self.factor[i])
        return _symmetric(statistic @ self.factor[i].transpose(-2, -1))

    def apply(self, i: int, curvature: Tensor, x: Tensor) -> Tensor:
        return self.merge((curvature @ self.split(x)[..., None])[..., 0], x.shape)

    def stored(self, i: int) -> Tensor:
        return self.factor[i]

    def as_curvature(self, i: int) -> Tensor:
        return self.factor[i] @ self.factor[i].transpose(-2, -1)

    @staticmethod
    def pieces(x: Tensor) -> Sequence[Tensor]:
        return x.split(max(1, piece_size(x.device) // x.shape[-1] ** 2))

    @staticmethod
    def level(curvature: Tensor) -> Tensor:
        return curvature.diagonal(dim1=-2, dim2=-1).mean(dtype=torch.float64)

    @staticmethod
    def add_level_(curvature: Tensor, value: float) -> Tensor:
        curvature.diagonal(dim1=-2, dim2=-1).add_(value)
        return curvature

    @staticmethod
    def constant(like: Tensor, value: float) -> Tensor:
        return value * torch.eye(like.shape[-1], dtype=like.dtype, device=like.device).expand_as(like)

    @staticmethod
    def spectral(curvature: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        values, basis = _eigh(curvature)
        return _symmetric((basis * function(values)[:, None]) @ basis.transpose(-2, -1))

    @staticmethod
    def relative_(stored: Tensor, curvature: Tensor) -> Tensor:
        inverse = _inverse(stored)
        product = inverse @ curvature @ inverse.transpose(-2, -1)
        return _symmetric(product.nan_to_num_(0.0, *_OVERFLOW))

    @staticmethod
    def scale_(stored: Tensor, relative: Tensor, function: Callable[[Tensor], Tensor]) -> None:
        values, basis = _eigh(relative)
        root = function(values).sqrt()
        # R V √a √a Vᵀ Rᵀ: by QR of (R V √a)ᵀ its factor comes without squaring condition numbers.
        upper = torch.linalg.qr((stored @ (basis * root[:, None])).transpose(-2, -1), mode="r").R
        sign = upper.diagonal(dim1=-2, dim2=-1).sign()
        _store(stored, (upper * sign[..., None]).transpose(-2, -1))

    @staticmethod
    def shift_log_std_(stored: Tensor, step: Tensor) -> None:
        diagonal = step.diagonal(dim1=-2, dim2=-1).exp()
        _store(stored, stored @ (step.tril(-1) + torch.diag_embed(diagonal)))


class BlockDiagonalGaussian(_BlockGaussian):
    """
    A block for each slice along a matrix's larger side, over its smaller one: of a LoRA pair A (r, in) and B (out, r),
    one r×r block for each input and each output. Further dimensions of a convolution count with its second; vectors
    have independent weights.
    """

    name = "block_diagonal"

    @staticmethod
    def problem(shape: torch.Size) -> str | None:
        size = min(shape[0], shape.numel() // shape[0]) if len(shape) > 1 else 1
        if size > _MAX_BLOCK:
            return (
                f"a block_diagonal posterior over a weight of shape {tuple(shape)} would have {size}×{size} blocks; "
                f"it is made for LoRA, with blocks of up to {_MAX_BLOCK}. Put an adapter on the model, name fewer "
                "weights in `target`, or choose family='diagonal' or 'low_rank'"
            )
        return None

    @staticmethod
    def split(x: Tensor) -> Tensor:
        if x.dim() < 2:
            return x.reshape(-1, 1)
        matrix = x.flatten(1)
        return matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix

    @staticmethod
    def merge(blocks: Tensor, shape: torch.Size) -> Tensor:
        if len(shape) > 1 and shape[0] <= shape.numel() // shape[0]:
            blocks = blocks.T.contiguous()
        return blocks.reshape(shape)


class FullGaussian(_BlockGaussian):
    """All correlations within a tensor; tensors stay independent of each other. For heads and small models."""

    name = "full"

    @staticmethod
    def problem(shape: torch.Size) -> str | None:
        if shape.numel() > _MAX_FULL:
            return (
                f"a full posterior over a weight of shape {tuple(shape)} would have a {shape.numel()}×{shape.numel()} "
                f"matrix, more than {_MAX_FULL}². Name fewer weights in `target`, or choose family='low_rank'"
            )
        return None

    @staticmethod
    def split(x: Tensor) -> Tensor:
        return x.reshape(1, -1)

    @staticmethod
    def merge(blocks: Tensor, shape: torch.Size) -> Tensor:
        return blocks.reshape(shape)


def _symmetric(matrix: Tensor) -> Tensor:
    return (matrix + matrix.transpose(-2, -1)).div_(2)


def _eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and vectors of finite matrices, scaled so that squares of absurd entries do not overflow."""
    scale = (matrix.abs().amax((-2, -1), keepdim=True) / 1e8).clamp_min(1.0)
    values, basis = torch.linalg.eigh(matrix / scale)
    return values * scale[..., 0], basis


def _inverse(factor: Tensor) -> Tensor:
    """Return R⁻¹."""
    identity = torch.eye(factor.shape[-1], device=factor.device, dtype=factor.dtype).expand_as(factor)
    return torch.linalg.solve_triangular(factor, identity, upper=False)


def _store(stored: Tensor, factor: Tensor) -> None:
    """
    Write R within what float32 can hold: the diagonal in a range, and each row's rest at most 1e4 times its diagonal
    (a correlation of 1 − 1e−8), beyond which R⁻¹ would be made of rounding errors.
    """
    factor = factor.nan_to_num(0.0, _STD_RANGE[1], -_STD_RANGE[1]).tril()
    diagonal = factor.diagonal(dim1=-2, dim2=-1).clamp(*_STD_RANGE)
    limit = 1e4 * diagonal[..., None]
    stored.copy_(torch.minimum(torch.maximum(factor, -limit), limit))
    stored.diagonal(dim1=-2, dim2=-1).copy_(diagonal)
