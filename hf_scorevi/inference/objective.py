"""
The objective of arXiv 2602.05873, literally: differentiable in q, over stored samples of the frozen iterate q_t.

    E_{θ ~ q_t} ‖∇log q(θ) − ŝ(θ)‖²_W + 4κ KL,      W = 1/λ_t or 1,      KL = KL(q_t‖q) or KL(q‖q_t)

The samples and their scores are computed once and reused by all inner steps: no gradient flows through them. The
factor 4κ makes the minimiser under W = 1/λ_t and KL(q_t‖q) the closed form of `inference.proximal`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["InnerLoop", "gaussian_kl", "gradient_update", "proximal_objective", "score_matching_loss"]

# Larger ĥ are clipped in the inner loop, so that the square of a gradient is finite in float32.
_LARGEST_RATIO = 1e9

Norm = Literal["precision", "none"]
Proximal = Literal["forward", "reverse"]


def score_matching_loss(
    mean: Tensor, precision: Tensor, samples: Tensor, scores: Tensor, weight: Tensor | float, probabilities: Tensor
) -> Tensor:
    """
    Return Σ_b p_b Σ_i W_i (∇log q(θ_b) − ŝ_b)_i² for q = N(mean, diag 1/precision).

    Args:
        mean: m, shape (D,).
        precision: λ, shape (D,) or ().
        samples: θ_b ~ q_t, shape (B, D).
        scores: ŝ_b, unbiased scores of the target there, shape (B, D).
        weight: W, frozen, shape (D,) or a number.
        probabilities: p_b of the samples, shape (B,), 1/B for a Monte-Carlo mean, or those of a quadrature.
    """
    residual = -precision * (samples - mean) - scores
    return probabilities @ (weight * residual.square()).sum(-1)


def gaussian_kl(mean: Tensor, precision: Tensor, other_mean: Tensor, other_precision: Tensor) -> Tensor:
    """Return KL(N(mean, 1/precision) ‖ N(other_mean, 1/other_precision)) in nats; shapes (D,), precisions also ()."""
    ratio = other_precision / precision
    return 0.5 * (ratio + other_precision * (mean - other_mean).square() - 1 - ratio.log()).sum()


def proximal_objective(
    mean: Tensor,
    precision: Tensor,
    frozen_mean: Tensor,
    frozen_precision: Tensor,
    samples: Tensor,
    scores: Tensor,
    kappa: float,
    norm: Norm = "precision",
    proximal: Proximal = "forward",
    probabilities: Tensor | None = None,
) -> Tensor:
    """
    Return the objective at q = N(mean, 1/precision), a scalar that is differentiable in both.

    Args:
        frozen_mean, frozen_precision: of q_t, from which `samples` were drawn.
        kappa: proximal weight κ > 0.
        norm: W, `"precision"` (1/λ_t: unit-free, unbiased under mini-batch noise) or `"none"` (1).
        proximal: `"forward"` KL(q_t‖q), or `"reverse"` KL(q‖q_t).
        probabilities: see `score_matching_loss`; default 1/B.
    """
    if norm not in ("precision", "none"):
        raise ValueError(f"Unknown norm {norm!r}; choose 'precision' or 'none'.")
    if proximal not in ("forward", "reverse"):
        raise ValueError(f"Unknown proximal {proximal!r}; choose 'forward' (KL(q_t‖q)) or 'reverse' (KL(q‖q_t)).")
    weight: Tensor | float = 1 / frozen_precision if norm == "precision" else 1.0
    if probabilities is None:
        probabilities = torch.full((len(samples),), 1 / len(samples), dtype=samples.dtype, device=samples.device)
    matching = score_matching_loss(mean, precision, samples, scores, weight, probabilities)
    q, q_t = (mean, precision), (frozen_mean, frozen_precision)
    penalty = gaussian_kl(*q_t, *q) if proximal == "forward" else gaussian_kl(*q, *q_t)
    return matching + 4 * kappa * penalty


def gradient_update(
    mean: Tensor,
    precision: Tensor,
    samples: Tensor,
    scores: Tensor,
    kappa: float,
    steps: int = 10,
    learning_rate: float = 0.05,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    norm: Norm = "precision",
    proximal: Proximal = "forward",
    probabilities: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """
    Run one outer iteration as the paper has it: `steps` inner steps of a torch optimizer from q_t, samples reused.

    It moves (m − m_t)√λ_t and log λ, so that one learning rate serves whatever the units of the weights.

    Returns:
        Mean (D,) and precision (D,) or () of the next iterate; the arguments are left alone.

    Raises:
        ValueError: samples or scores are not finite, or do not have shape (B, D).
    """
    if samples.shape != scores.shape or samples.dim() != 2 or samples.shape[1:] != mean.shape:
        raise ValueError(
            f"samples and scores must both have shape (B, {mean.numel()}), not {tuple(samples.shape)} and "
            f"{tuple(scores.shape)}."
        )
    if not bool(samples.isfinite().all() and scores.isfinite().all()):
        raise ValueError("samples or scores are not finite; reject this batch and draw another.")
    shift = torch.zeros_like(mean, requires_grad=True)
    log_ratio = torch.zeros_like(precision, requires_grad=True)
    inner = optimizer([shift, log_ratio], lr=learning_rate)
    for _ in range(steps):
        inner.zero_grad()
        loss = proximal_objective(
            mean + shift / precision.sqrt(),
            precision * log_ratio.exp(),
            mean,
            precision,
            samples,
            scores,
            kappa,
            norm,
            proximal,
            probabilities,
        )
        loss.backward()
        inner.step()
    with torch.no_grad():
        return mean + shift / precision.sqrt(), precision * log_ratio.exp()


@dataclass(frozen=True)
class InnerLoop:
    """
    The inner loop of `update="gradient"`: Adam on log a, a = λ/λ_t, from a = 1, on the objective above.

    There the mean is the user's optimizer's, and the samples enter through the averaged ĥ alone: per weight, what is
    minimised is W λ_t (a − ĥ)² + 4κ KL at c = 0. For blocks a and ĥ are eigenvalues relative to Λ_t.

    Attributes:
        steps: K, inner steps.
        learning_rate: Adam's.
        norm, proximal: see `proximal_objective`.
    """

    steps: int = 10
    learning_rate: float = 0.05
    norm: Norm = "precision"
    proximal: Proximal = "forward"

    def precision_ratio(self, h: Tensor, kappa: float, precision: Tensor) -> Tensor:
        """
        Return a after the inner steps, in the shape of ĥ.

        Args:
            precision: λ_t, used for norm `"none"` alone.
        """
        weight = precision.clone() if self.norm == "none" else 1.0
        h = h.clamp(-_LARGEST_RATIO, _LARGEST_RATIO)
        log_ratio = torch.zeros_like(h, requires_grad=True)
        inner = torch.optim.Adam([log_ratio], lr=self.learning_rate)
        one, zero = torch.ones_like(h), torch.zeros_like(h)
        with torch.enable_grad():
            for _ in range(self.steps):
                inner.zero_grad()
                a = log_ratio.exp()
                penalty = (
                    gaussian_kl(zero, one, zero, a) if self.proximal == "forward" else gaussian_kl(zero, a, zero, one)
                )
                ((weight * (a - h).square()).sum() + 4 * kappa * penalty).backward()  # type: ignore[no-untyped-call]
                inner.step()
        return log_ratio.detach().exp()
