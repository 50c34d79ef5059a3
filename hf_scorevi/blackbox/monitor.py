"""The record of a fit while it runs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from .gaussian import Gaussian
from .noise import antithetic_noise
from .target import Target

__all__ = ["Monitor"]

_ELBO_PAIRS = 128
# Noise stream of the ELBO's estimate, apart from the steps' (their numbers are not negative).
_ELBO_STREAM = -1


class Monitor:
    """
    Record figures of q, those of `FitResult.trace` that can be computed.

    Args:
        target: with a log_prob the negative ELBO is recorded.
        reference: mean (D,) and covariance (D, D) of a Gaussian to compare with, or None.

    Raises:
        ValueError: the reference has other shapes or is no Gaussian.
    """

    def __init__(self, target: Target, reference: tuple[Tensor, Tensor] | None, seed: int) -> None:
        self.trace: list[dict[str, float]] = []
        self._target = target
        # In pairs: exact for what is odd about the mean.
        self._z = antithetic_noise(_ELBO_PAIRS, target.dim, seed, _ELBO_STREAM)
        self._reference: Gaussian | None = None
        if reference is not None:
            mean, covariance = (torch.as_tensor(t, dtype=torch.float64) for t in reference)
            if mean.shape != (target.dim,) or covariance.shape != (target.dim, target.dim):
                raise ValueError(
                    f"reference must be a mean of shape ({target.dim},) and a covariance of shape ({target.dim}, "
                    f"{target.dim}), not {tuple(mean.shape)} and {tuple(covariance.shape)}."
                )
            try:
                self._reference = Gaussian.from_covariance(mean, covariance)
            except LinAlgError as error:
                raise ValueError("The reference's covariance is not positive definite.") from error

    def record(self, q: Gaussian) -> dict[str, float]:
        """Add one record and return it."""
        figures: dict[str, float] = {"evaluations": self._target.evaluations}
        if self._target.has_log_prob:
            # log q at the same samples, not its exact entropy: the noise then vanishes where q is the target.
            x = q.transform(self._z)
            figures["negative_elbo"] = (q.log_prob(x) - self._target.log_prob(x)).mean().item()
        if self._reference is not None:
            figures["forward_kl"] = self._reference.kl(q)
            figures["reverse_kl"] = q.kl(self._reference)
        self.trace.append(figures)
        return figures
