"""Maximum calibration error: the worst bin."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.reliability import reliability_bins

FIGURES = (Figure("mce", "MCE", greater_is_better=False, is_binned=True),)


def mce(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15) -> dict[str, Any]:
    """Compute the largest |accuracy - mean confidence| of all bins that hold an example, in [0, 1].

    Top-label, with the bins of `ece`. A bin of a few examples may decide it, and a bin of one has a gap of its
    confidence or of 1 - confidence: read it beside a reliability diagram with the counts.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.
        num_bins: number of bins, at least 1.

    Returns:
        `{"mce": float, "num_bins": int, "binning": "equal_width", "norm": "max"}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, num_bins < 1.

    Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.
    """
    bins = reliability_bins(probabilities, labels, num_bins)
    return {
        "mce": float(np.nanmax(np.abs(bins.accuracy - bins.mean_confidence))),  # NaN where a bin is empty
        "num_bins": int(num_bins),
        "binning": "equal_width",
        "norm": "max",
    }
