"""Calibration error against the labels of many annotators instead of one."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.chunks import top_label
from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.inputs import check_label_distributions, check_num_bins, check_predictions
from hf_scorevi.metrics.reliability import bin_numbers

FIGURES = (Figure("soft_ece", "soft ECE", greater_is_better=False, is_binned=True),)


def soft_ece(probabilities: npt.ArrayLike, label_distributions: npt.ArrayLike, num_bins: int = 15) -> dict[str, Any]:
    """Compute the mean over examples of |mean share of annotators - mean confidence| of the example's bin, in [0, 1].

    As `ece`, with the share of annotators that chose the predicted class in the place of 0 or 1. The shares measure
    how ambiguous an example is, so that there is no noise of single labels, but errors of opposite sign still cancel
    within a bin.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        label_distributions: [examples, classes], the share of annotators that chose each class; rows sum to one.
            Divide counts by their sum first.
        num_bins: number of bins, of equal width on [0, 1] and closed on the right, at least 1.

    Returns:
        `{"soft_ece": float, "num_bins": int, "binning": "equal_width", "norm": "l1"}`

    Raises:
        ValueError: wrong or different shapes, empty input, rows on either side that are no distribution, num_bins < 1.

    Source: Baan et al., "Stop Measuring Calibration When Humans Disagree", EMNLP 2022 (arXiv 2210.16133), which argues
    for distances of single examples; `soft_nll` has one.
    """
    check_num_bins(num_bins)
    predicted = check_predictions(probabilities)
    human = check_label_distributions(label_distributions, predicted.shape)
    confidences, predictions = top_label(predicted)
    gaps = human[np.arange(len(predictions)), predictions] - confidences
    sums = np.bincount(bin_numbers(confidences, num_bins), weights=gaps)
    return {
        "soft_ece": float(np.abs(sums).sum() / len(gaps)),
        "num_bins": int(num_bins),
        "binning": "equal_width",
        "norm": "l1",
    }
