"""Calibration error over all probabilities of all classes at once, as BayesDLL computes its ECE."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.class_bins import class_bins
from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.inputs import check_num_bins, check_probabilities

FIGURES = (Figure("pooled_ece", "pooled ECE", greater_is_better=False, is_binned=True),)


def pooled_ece(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15) -> dict[str, Any]:
    """Compute the calibration error of all class probabilities against one-hot labels, in [0, 2 / classes].

    Each probability p_ik with [k is the label of i] counts as one binary forecast, and all of them share one set of
    bins: mean over forecasts of |share of hits - mean probability| of the forecast's bin. Most forecasts are small
    probabilities of classes other than the label, and the sum is divided by all of them: where the predicted classes
    have bins of their own and the rest lies in the first one, the value is 1 / classes to 2 / classes of the top-label
    `ece`, the latter if all its gaps have one sign. Use it only to compare with figures of BayesDLL.

    Bins have equal width on [0, 1] and are closed on the right (`reliability_bins`); BayesDLL's are closed on the
    left, which matters only to probabilities that lie on an edge.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.
        num_bins: number of bins, at least 1.

    Returns:
        `{"pooled_ece": float, "num_bins": int, "binning": "equal_width", "norm": "l1"}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, num_bins < 1.

    Source: Kim and Hospedales, "BayesDLL: Bayesian Deep Learning Library" (arXiv 2309.12928), its `calibration.py`.
    """
    check_num_bins(num_bins)
    checked, targets = check_probabilities(probabilities, labels)
    bins = class_bins(checked, targets, num_bins)
    gaps = bins.hits.sum(axis=0) - bins.probabilities.sum(axis=0)
    return {
        "pooled_ece": float(np.abs(gaps).sum() / checked.size),
        "num_bins": int(num_bins),
        "binning": "equal_width",
        "norm": "l1",
    }
