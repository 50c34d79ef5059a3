"""Batches of examples by the score of each: the best, or a random choice."""

from __future__ import annotations

import torch
from torch import Tensor

from ._inputs import check_k

__all__ = ["power_acquisition", "select"]


def select(scores: Tensor, k: int, seed: int = 0) -> Tensor:
    """
    Return the indices of the k highest scores, (k,), the highest first; among equal scores a random choice.

    Args:
        scores: (B,), higher is chosen first.
        k: 1 to B.
        seed: of the choice among equals; the same on every device.

    Raises:
        ValueError: scores of another shape or NaN, or k out of range.
    """
    _check_scores(scores, k)
    shuffled = torch.randperm(len(scores), generator=torch.Generator().manual_seed(seed)).to(scores.device)
    return shuffled[scores[shuffled].argsort(descending=True, stable=True)[:k]]


def power_acquisition(scores: Tensor, k: int, power: float = 1.0, seed: int = 0) -> Tensor:
    """
    Return the indices of k different examples, (k,), drawn one after the other with probability ∝ score^power.

    The examples of the highest scores are often alike; a random choice is more diverse at no cost. `power` 0 is a
    uniform choice, infinity that of `select`.

    Args:
        scores: (B,), not negative: `bald`, `entropy` or `least_confidence`. Those of zero come last.
        k: 1 to B.
        power: 0 or more.
        seed: of the choice; the same on every device.

    Raises:
        ValueError: scores of another shape, NaN or negative, k out of range, or a negative power.

    Source: Kirsch et al., "Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning", TMLR 2023 (arXiv
    2106.12059), section 3; the top k of log-scores plus Gumbel noise are such a batch.
    """
    _check_scores(scores, k)
    if not (scores >= 0).all():
        raise ValueError("power_acquisition needs scores of at least 0: bald, entropy or least_confidence.")
    if not power >= 0:
        raise ValueError(f"power must be at least 0, not {power!r}.")
    if power == float("inf"):
        return select(scores, k, seed)
    uniform = torch.rand(len(scores), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    gumbel = -(-uniform.log()).log()
    # On the CPU, where there is float64.
    logs = torch.special.xlogy(power, scores.detach().cpu().double())
    return select(logs + gumbel, k, seed).to(scores.device)


def _check_scores(scores: Tensor, k: int) -> None:
    if scores.dim() != 1 or scores.isnan().any():
        raise ValueError(f"scores must have the shape (B,) and be no NaN; theirs is {tuple(scores.shape)}.")
    check_k(k, len(scores))
