"""Class-wise calibration error: whether every class's probability, and not only the largest, means what it says."""

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics._chunks import row_chunks
from hf_scorevi.metrics._inputs import check_num_bins, check_probabilities
from hf_scorevi.metrics.reliability import bin_edges, bin_numbers


def classwise_ece(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15) -> dict[str, float | int]:
    """Mean over classes k of the calibration error of p_k, in [0, 1].

    That of one class is the mean over examples of |share of label k - mean p_k| of the bin that the example's p_k
    falls into. Bins have equal width on [0, 1] and are closed on the right (`reliability_bins`). Most classes of most
    examples lie in the first bin, so that the value is of the order of 1 / classes: compare only values of the same
    number of classes, size of data and number of bins.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.
        num_bins: number of bins, at least 1.

    Returns:
        `{"classwise_ece": float, "num_bins": int}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, num_bins < 1.

    Source: Kull et al., "Beyond temperature scaling", NeurIPS 2019 (arXiv 1910.12656), section 2; the static
    calibration error of Nixon et al., "Measuring Calibration in Deep Learning" (arXiv 1904.01685).
    """
    check_num_bins(num_bins)
    checked, targets = check_probabilities(probabilities, labels)
    num_examples, num_classes = checked.shape
    # A bin's count cancels: what is left of it is the sum of p_k less the number of labels k, for each class and bin.
    gaps = np.zeros((num_classes, num_bins))
    flat = gaps.reshape(-1)
    first_edge = np.float32(bin_edges(num_bins)[1])
    for rows in row_chunks(num_examples, num_classes):
        chunk = checked[rows]
        # All of a column into its first bin, then back out of it what belongs higher: at most num_bins entries a row.
        gaps[:, 0] += chunk.sum(axis=0, dtype=np.float64)
        above_first = np.flatnonzero(chunk.astype(np.float32, copy=False) > first_edge)
        classes = above_first % num_classes
        above = chunk[above_first // num_classes, classes].astype(np.float64)
        np.add.at(flat, classes * num_bins + bin_numbers(above, num_bins), above)
        np.add.at(flat, classes * num_bins, -above)
    of_labels = checked[np.arange(num_examples), targets]
    np.add.at(flat, targets * num_bins + bin_numbers(of_labels, num_bins), -1.0)
    return {"classwise_ece": float(np.abs(gaps).sum() / (num_examples * num_classes)), "num_bins": int(num_bins)}
