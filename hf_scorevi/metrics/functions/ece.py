"""Expected calibration error: how far confidence and accuracy are apart, on average."""

from typing import Any

import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.reliability import reliability_bins

FIGURES = (Figure("ece", "ECE", greater_is_better=False, is_binned=True),)


def ece(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15) -> dict[str, Any]:
    """Compute the mean over examples of |accuracy - mean confidence| of the example's bin, in [0, 1].

    Top-label: only the probability of the predicted class counts. Bins have equal width on [0, 1] and are closed on
    the right (`reliability_bins`). The value depends on the number of bins, which is therefore returned with it, and
    is biased upwards when bins hold few examples: compare only values of the same size of data and number of bins.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.
        num_bins: number of bins, at least 1.

    Returns:
        `{"ece": float, "num_bins": int, "binning": "equal_width", "norm": "l1"}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, num_bins < 1.

    Source: Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015; top-label as in
    Guo et al., ICML 2017 (arXiv 1706.04599), equation 3.
    """
    return {
        "ece": reliability_bins(probabilities, labels, num_bins).ece,
        "num_bins": int(num_bins),
        "binning": "equal_width",
        "norm": "l1",
    }
