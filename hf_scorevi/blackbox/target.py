"""The target of a fit: a log-density or its score, whose results are checked and counted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..numbers import plain

__all__ = ["Target"]

Function = Callable[[Tensor], Tensor]


class Target:
    """
    Wrap the user's functions; all inputs are float64.

    Args:
        log_prob: (B, D) → (B,), up to a constant.
        score: (B, D) → (B, D), ∇ log_prob; may be noisy, if unbiased. Without it, `log_prob` is differentiated.
        dim: D.

    Attributes:
        evaluations: scores evaluated so far, one for each row of each call.

    Raises:
        ValueError: neither function was given, or dim < 1.
    """

    def __init__(self, log_prob: Function | None, score: Function | None, dim: int) -> None:
        if log_prob is None and score is None:
            raise ValueError("Give log_prob, or score, or both: there is nothing to fit.")
        dim = plain(dim)
        if not isinstance(dim, int) or isinstance(dim, bool) or dim < 1:
            raise ValueError(f"dim is the number of parameters, a positive integer, not {dim!r}.")
        self._log_prob, self._score, self.dim = log_prob, score, dim
        self.evaluations = 0

    @property
    def has_log_prob(self) -> bool:
        """Whether the negative ELBO can be estimated."""
        return self._log_prob is not None

    def score(self, x: Tensor) -> Tensor:
        """
        Return the score at rows x, (B, D), which may hold numbers that are not finite.

        Raises:
            ValueError: the function returned another shape, or something that can't be differentiated.
            TypeError: it did not return a tensor.
        """
        self.evaluations += len(x)
        if self._score is not None:
            with torch.no_grad():
                return self._checked("score", self._score(x.clone()), x.shape)
        with torch.enable_grad():
            leaf = x.clone().requires_grad_()
            value = self._evaluate(leaf)
            if not value.requires_grad:
                raise ValueError("log_prob must be made of differentiable torch operations; otherwise give score too.")
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return gradient.detach()

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log_prob at rows x, (B, D) → (B,); not counted as score evaluations."""
        with torch.no_grad():
            return self._evaluate(x.clone())

    def _evaluate(self, x: Tensor) -> Tensor:
        assert self._log_prob is not None
        return self._checked("log_prob", self._log_prob(x), x.shape[:1])

    @staticmethod
    def _checked(name: str, value: object, shape: torch.Size) -> Tensor:
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must return a torch.Tensor, not {type(value).__name__}.")
        if value.shape != shape:
            raise ValueError(
                f"{name} must return shape {tuple(shape)} (one {'row' if len(shape) == 2 else 'number'} for each row "
                f"of its input), not {tuple(value.shape)}."
            )
        return value.to(torch.float64)
