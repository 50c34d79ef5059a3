"""How good a predictive was: scores, coverage and PIT of a mixture of Gaussians."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_scorevi.predictive import GAUSSIAN_SCORES, gaussian_mixture_scores

LEVELS = (0.5, 0.8, 0.9, 0.95)
PIT_BINS = 20
_WINDOWS = 128  # at once


def scores(samples: Tensor, variance: Tensor, targets: Tensor) -> dict[str, Any]:
    """
    Of the mixtures with components `samples` (S, N, H, C) and noise `variance` (N, H, C): means over all elements.

    Returns:
        `mse`, `mae`, `nll`, `crps`, `coverage_50` … `coverage_95`, `coverage_error` (the mean over these of their
        absolute difference to the level), `epistemic` (the mean variance between components over that of the whole
        predictive) and `pit`, counts in PIT_BINS bins.
    """
    found, counts, spread = [], torch.zeros(PIT_BINS, dtype=torch.int64), 0.0
    for start in range(0, len(targets), _WINDOWS):
        rows = slice(start, start + _WINDOWS)
        means, noise, target = samples[:, rows], variance[rows], targets[rows]
        found.append(gaussian_mixture_scores(means, noise, target))
        between = means.var(0, unbiased=False)
        spread += (between / (between + noise)).sum().item()
        probability = torch.special.ndtr((target - means) / noise.sqrt()).mean(0)
        counts += torch.histc(probability, PIT_BINS, 0, 1).long()
    result: dict[str, Any] = dict(zip(GAUSSIAN_SCORES, torch.cat(found).double().mean(0).tolist(), strict=True))
    result["coverage_error"] = float(np.mean([abs(result[f"coverage_{100 * level:.0f}"] - level) for level in LEVELS]))
    return result | {"epistemic": spread / targets.numel(), "pit": counts.tolist()}
