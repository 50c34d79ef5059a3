"""Brier score: the squared distance between the probabilities and what happened; a strictly proper score."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.chunks import row_chunks
from hf_scorevi.metrics.class_bins import class_bins
from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.inputs import check_num_bins, check_probabilities

FIGURES = (
    Figure("brier", "Brier score", greater_is_better=False),
    Figure("reliability", "reliability", greater_is_better=False, is_binned=True),
    Figure("resolution", "resolution", greater_is_better=True, is_binned=True),
    Figure("uncertainty", "uncertainty", greater_is_better=None),
    Figure("within_bin_variance", "within-bin variance", greater_is_better=None, is_binned=True),
    Figure("within_bin_covariance", "within-bin covariance", greater_is_better=None, is_binned=True),
)


def brier(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15) -> dict[str, Any]:
    """Compute the mean over examples of the sum over classes of (p_c - [c is the label])², in [0, 2].

    This is Brier's own definition. Some libraries give half of it for two classes, or a mean over classes.

    It is made up of parts. Class by class, the examples are sorted into bins by p_c; o is 1 where c is the label and 0
    elsewhere, and in a bin of n of the N examples p̄ and ō are the means of both, over all examples ō_c. Summed over
    classes and bins,

    - `reliability` = Σ n/N (p̄ - ō)², lower is better: calibration of every class's probability;
    - `resolution` = Σ n/N (ō - ō_c)², higher is better: how much the frequency of the class differs between bins;
    - `uncertainty` = Σ_c ō_c (1 - ō_c): that of the labels, for any model;
    - `within_bin_variance` of p and `within_bin_covariance`, twice that of p and o: the effect of the width of the
      bins.

    brier = reliability - resolution + uncertainty + within_bin_variance - within_bin_covariance, exactly. The parts
    depend on the number of bins, the score does not; in bins of few examples reliability is biased upwards. A sum over
    classes, it is not the reliability of the top label.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.
        num_bins: number of bins of the parts, of equal width on [0, 1] and closed on the right, at least 1.

    Returns:
        `{"brier": float, "reliability": float, "resolution": float, "uncertainty": float,
        "within_bin_variance": float, "within_bin_covariance": float, "num_bins": int, "binning": "equal_width"}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, num_bins < 1.

    Source: Brier, "Verification of forecasts expressed in terms of probability", Mon. Weather Rev. 78 (1950);
    Murphy, "A New Vector Partition of the Probability Score", J. Appl. Meteor. 12 (1973); Stephenson et al., "Two
    Extra Components in the Brier Score Decomposition", Weather and Forecasting 23 (2008).
    """
    check_num_bins(num_bins)
    checked, targets = check_probabilities(probabilities, labels)
    num_examples = len(targets)
    score = squares = 0.0
    for rows in row_chunks(*checked.shape):
        errors = checked[rows].astype(np.float64, order="C")
        squares += float(np.vdot(errors, errors))
        errors[np.arange(len(errors)), targets[rows]] -= 1.0
        score += float(np.vdot(errors, errors))
    bins = class_bins(checked, targets, num_bins)
    filled = np.maximum(bins.counts, 1.0)  # what is in an empty bin is zero
    frequencies = np.bincount(targets, minlength=checked.shape[1]) / num_examples
    of_labels = checked[np.arange(num_examples), targets].astype(np.float64)
    parts = {
        "reliability": np.square(bins.probabilities - bins.hits) / filled,
        "resolution": bins.counts * np.square(bins.hits / filled - frequencies[:, None]),
        "uncertainty": num_examples * frequencies * (1.0 - frequencies),
        "within_bin_variance": squares - (np.square(bins.probabilities) / filled).sum(),
        "within_bin_covariance": 2.0 * (of_labels.sum() - (bins.probabilities * bins.hits / filled).sum()),
    }
    return {
        "brier": score / num_examples,
        **{name: float(np.sum(values) / num_examples) for name, values in parts.items()},
        "num_bins": int(num_bins),
        "binning": "equal_width",
    }
