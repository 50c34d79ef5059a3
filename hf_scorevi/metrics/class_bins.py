"""The probabilities of every class sorted into bins, for class-wise and pooled calibration errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.chunks import row_chunks
from hf_scorevi.metrics.reliability import bin_edges, bin_numbers


@dataclass(frozen=True)
class ClassBins:
    """Sums over the examples whose p_k lies in a bin, each [classes, bins].

    Attributes:
        counts: number of examples.
        probabilities: sum of p_k.
        hits: number of examples of label k.
    """

    counts: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    hits: npt.NDArray[np.float64]


def class_bins(probabilities: npt.NDArray[Any], labels: npt.NDArray[np.int64], num_bins: int) -> ClassBins:
    """Bin checked probabilities [examples, classes], in bins of equal width, closed on the right."""
    num_examples, num_classes = probabilities.shape
    counts, sums, hits = np.zeros((3, num_classes, num_bins))
    counts[:, 0] = num_examples
    flat_counts, flat_sums, flat_hits = counts.reshape(-1), sums.reshape(-1), hits.reshape(-1)
    first_edge = np.float32(bin_edges(num_bins)[1])
    for rows in row_chunks(num_examples, num_classes):
        chunk = probabilities[rows]
        # All of a column into its first bin, then back out of it what belongs higher: at most num_bins entries a row.
        sums[:, 0] += chunk.sum(axis=0, dtype=np.float64)
        above_first = np.flatnonzero(chunk.astype(np.float32, copy=False) > first_edge)
        classes = above_first % num_classes
        above = chunk[above_first // num_classes, classes].astype(np.float64)
        cells, first_cells = classes * num_bins + bin_numbers(above, num_bins), classes * num_bins
        np.add.at(flat_counts, cells, 1.0)
        np.add.at(flat_counts, first_cells, -1.0)
        np.add.at(flat_sums, cells, above)
        np.add.at(flat_sums, first_cells, -above)
    of_labels = probabilities[np.arange(num_examples), labels]
    np.add.at(flat_hits, labels * num_bins + bin_numbers(of_labels, num_bins), 1.0)
    # What is left of a sum from which everything was taken back is rounding.
    sums[counts == 0] = 0.0
    return ClassBins(counts, sums, hits)
