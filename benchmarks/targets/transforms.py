"""Maps from R^D to constrained parameters, with their log Jacobians: those of Stan's reference manual, "Constraint
Transforms". Every map works on rows: u [B, d] to (x [B, d], log|det ∂x/∂u| [B])."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Bound = float | Callable[[Tensor], Tensor]  # a number, or a function of the constrained columns to the left


class Transform(Protocol):
    """`before` [B, ·] holds the constrained columns to the left, on which a bound may depend."""

    def constrain(self, u: Tensor, before: Tensor) -> tuple[Tensor, Tensor]: ...

    def unconstrain(self, x: Tensor, before: Tensor) -> Tensor: ...


class Real:
    """x = u."""

    def constrain(self, u: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        return u, u.new_zeros(u.shape[0])

    def unconstrain(self, x: Tensor, before: Tensor) -> Tensor:
        return x


class Positive:
    """x = exp u."""

    def constrain(self, u: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        return u.exp(), u.sum(1)

    def unconstrain(self, x: Tensor, before: Tensor) -> Tensor:
        return x.log()


@dataclass(frozen=True)
class Interval:
    """x = lower + (upper − lower) · sigmoid(u)."""

    lower: float = 0.0
    upper: Bound = 1.0

    def width(self, before: Tensor) -> Tensor:
        """[B, 1], or [1, 1] for a fixed bound."""
        upper = self.upper(before) if callable(self.upper) else before.new_full((1, 1), self.upper)
        return upper - self.lower

    def constrain(self, u: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        width = self.width(before)
        log_jacobian = width.log() + logsigmoid(u) + logsigmoid(-u)
        return self.lower + width * torch.sigmoid(u), log_jacobian.sum(1)

    def unconstrain(self, x: Tensor, before: Tensor) -> Tensor:
        return torch.logit((x - self.lower) / self.width(before))


class Ordered:
    """x_1 = u_1, x_k = x_{k−1} + exp u_k."""

    def constrain(self, u: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([u[:, :1], u[:, 1:].exp()], dim=1).cumsum(1)
        return x, u[:, 1:].sum(1)

    def unconstrain(self, x: Tensor, before: Tensor) -> Tensor:
        return torch.cat([x[:, :1], x.diff(dim=1).log()], dim=1)


class Stack:
    """Transforms side by side: blocks of (number of columns, transform), from left to right."""

    def __init__(self, blocks: Sequence[tuple[int, Transform]]) -> None:
        self.blocks = tuple(blocks)
        self.dim = sum(size for size, _ in blocks)

    def constrain(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """u [B, dim] to (x [B, dim], log|det ∂x/∂u| [B])."""
        x, log_jacobian, start = u[:, :0], u.new_zeros(u.shape[0]), 0
        for size, transform in self.blocks:
            block, log_block = transform.constrain(u[:, start : start + size], x)
            x, log_jacobian, start = torch.cat([x, block], dim=1), log_jacobian + log_block, start + size
        return x, log_jacobian

    def unconstrain(self, x: Tensor) -> Tensor:
        """x [B, dim] to u [B, dim]."""
        blocks, start = [], 0
        for size, transform in self.blocks:
            blocks.append(transform.unconstrain(x[:, start : start + size], x[:, :start]))
            start += size
        return torch.cat(blocks, dim=1)
