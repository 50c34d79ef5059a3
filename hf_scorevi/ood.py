"""
Out-of-distribution detection: scores that are higher for inputs unlike the training data, and their evaluation.

A `PredictiveOutput` has most scores: `entropy`, `mutual_information`, and `-probs.max(-1).values`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .metrics import ood_detection
from .metrics.inputs import as_array

__all__ = ["energy", "evaluate_ood"]


def energy(logits: Tensor) -> Tensor:
    """
    Return the energy −log Σ exp(logits) of each example, (B,), averaged over draws if there are any.

    Args:
        logits: (B, K), or of each draw, (S, B, K).

    Raises:
        ValueError: another shape.

    Source: Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020 (arXiv 2010.03759), equation 4, at
    temperature 1.
    """
    if logits.dim() not in (2, 3):
        raise ValueError(f"logits must have the shape (B, K) or (S, B, K), not {tuple(logits.shape)}.")
    energies = -logits.float().logsumexp(-1)
    return energies.mean(0) if logits.dim() == 3 else energies


def evaluate_ood(in_scores: npt.ArrayLike, out_scores: npt.ArrayLike) -> dict[str, float | int]:
    """
    Evaluate scores by `hf_scorevi.metrics.ood_detection`.

    Args:
        in_scores: [examples], scores of examples in distribution. Array, tensor or list.
        out_scores: [examples], scores of examples out of distribution.

    Returns:
        The result of `hf_scorevi.metrics.ood_detection`.

    Raises:
        ValueError: scores of another shape, none, or NaN.
    """
    inside, outside = as_array(in_scores, "in_scores"), as_array(out_scores, "out_scores")
    for name, scores in (("in_scores", inside), ("out_scores", outside)):
        if scores.ndim != 1 or scores.size == 0:
            raise ValueError(f"{name} must have the shape [examples], at least one, not {list(scores.shape)}")
    return ood_detection(np.concatenate([inside, outside]), np.repeat([0, 1], [len(inside), len(outside)]))
