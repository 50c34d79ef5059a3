"""Expected calibration error over bins of equal mass, which follow the confidences to where they are."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.chunks import top_label
from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.inputs import check_num_bins, check_probabilities

FIGURES = (Figure("adaptive_ece", "adaptive ECE", greater_is_better=False, is_binned=True),)


def adaptive_ece(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15) -> dict[str, Any]:
    """Compute the mean of |accuracy - mean confidence| of each example's bin, in [0, 1], for bins of equal mass.

    Top-label, as `ece`. Examples are sorted by confidence and cut into `num_bins` groups whose sizes differ by at most
    one, the larger ones first. Equal confidences (compared in float32) stay together: all of them go to the group that
    the first of them falls into, so that the order of the examples does not matter; groups then differ by more.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.
        num_bins: number of bins, at least 1. With fewer examples each has a bin of its own.

    Returns:
        `{"adaptive_ece": float, "num_bins": int, "binning": "equal_mass", "norm": "l1"}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, num_bins < 1.

    Source: Nguyen and O'Connor, "Posterior calibration and exploratory analysis for natural language processing
    models", EMNLP 2015 (arXiv 1508.05154); Nixon et al., "Measuring Calibration in Deep Learning" (arXiv 1904.01685).
    """
    check_num_bins(num_bins)
    checked, targets = check_probabilities(probabilities, labels)
    confidences, predictions = top_label(checked)
    return {
        "adaptive_ece": error_of_confidences(confidences, predictions == targets, num_bins),
        "num_bins": int(num_bins),
        "binning": "equal_mass",
        "norm": "l1",
    }


def error_of_confidences(
    confidences: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_], num_bins: int = 15
) -> float:
    """Compute the error from the confidence of each example, and from whether the prediction is the label."""
    compared = confidences.astype(np.float32)
    ranks = np.searchsorted(np.sort(compared), compared, side="left")  # equal confidences have the first one's
    sizes = np.full(num_bins, len(ranks) // num_bins)
    sizes[: len(ranks) % num_bins] += 1
    bins = np.searchsorted(np.cumsum(sizes)[:-1], ranks, side="right")
    gaps = np.bincount(bins, weights=correct - confidences)
    return float(np.abs(gaps).sum() / len(ranks))
