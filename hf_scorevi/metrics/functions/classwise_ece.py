"""Class-wise calibration error: whether every class's probability, and not only the largest, means what it says."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.class_bins import class_bins
from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.inputs import check_num_bins, check_probabilities

FIGURES = (Figure("classwise_ece", "class-wise ECE", greater_is_better=False, is_binned=True),)


def classwise_ece(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15) -> dict[str, Any]:
    """Compute the mean over classes k of the calibration error of p_k, in [0, 1].

    That of one class is the mean over examples of |share of label k - mean p_k| of the bin that the example's p_k
    falls into. Bins have equal width on [0, 1] and are closed on the right (`reliability_bins`). Most classes of most
    examples lie in the first bin, so that the value is of the order of 1 / classes: compare only values of the same
    number of classes, size of data and number of bins.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.
        num_bins: number of bins, at least 1.

    Returns:
        `{"classwise_ece": float, "num_bins": int, "binning": "equal_width", "norm": "l1"}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, num_bins < 1.

    Source: Kull et al., "Beyond temperature scaling", NeurIPS 2019 (arXiv 1910.12656), section 2; the static
    calibration error of Nixon et al., "Measuring Calibration in Deep Learning" (arXiv 1904.01685).
    """
    check_num_bins(num_bins)
    checked, targets = check_probabilities(probabilities, labels)
    bins = class_bins(checked, targets, num_bins)
    # A bin's count cancels: what is left of it is the sum of p_k less the number of labels k.
    return {
        "classwise_ece": float(np.abs(bins.hits - bins.probabilities).sum() / checked.size),
        "num_bins": int(num_bins),
        "binning": "equal_width",
        "norm": "l1",
    }
