"""Predictions sorted into bins of confidence: what a reliability diagram draws and what `ece` sums."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics._chunks import top_label
from hf_scorevi.metrics._inputs import check_num_bins, check_probabilities


@dataclass(frozen=True)
class ReliabilityBins:
    """Bins of equal width on [0, 1], closed on the right: bin i holds edges[i] < confidence <= edges[i + 1].

    A confidence of zero belongs to the first bin.

    Attributes:
        edges: [bins + 1].
        counts: [bins], examples in each bin.
        mean_confidence: [bins], NaN where a bin is empty.
        accuracy: [bins], share of right predictions, NaN where a bin is empty.
    """

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    mean_confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]


def reliability_bins(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15) -> ReliabilityBins:
    """Bin examples by their confidence, the probability of the most probable class.

    Among equally probable classes the one of lowest index is the prediction, as with `argmax`.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.
        num_bins: number of bins, at least 1.

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, num_bins < 1.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (arXiv 1706.04599), section 2.
    """
    check_num_bins(num_bins)
    checked, targets = check_probabilities(probabilities, labels)
    confidences, predictions = top_label(checked)
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    # Compared in float32, so that 0.6 falls into the same bin whether it arrives as float32 or float64. Without the
    # outer edges, what lies at or beyond them (1.0000001, by rounding) goes to the first or the last bin.
    bins = np.searchsorted(edges[1:-1].astype(np.float32), confidences.astype(np.float32), side="left")
    counts = np.bincount(bins, minlength=num_bins)
    filled = np.where(counts > 0, counts, np.nan)
    return ReliabilityBins(
        edges=edges,
        counts=counts,
        mean_confidence=np.bincount(bins, weights=confidences, minlength=num_bins) / filled,
        accuracy=np.bincount(bins, weights=predictions == targets, minlength=num_bins) / filled,
    )
