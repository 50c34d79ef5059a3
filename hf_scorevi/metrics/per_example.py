"""Figures of a whole data set from four numbers an example, without the probabilities of all classes."""

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.inputs import SUM_TOLERANCE, as_array, refuse_not_real
from hf_scorevi.metrics.reliability import bin_confidences


def summary_from_scores(scores: npt.ArrayLike, num_bins: int = 15) -> dict[str, float | int]:
    """Compute those of the `classification_metrics` that need only four numbers an example.

    Where a confidence lies within rounding of an edge between bins, the ECE's bin is that of the rounded number.

    Args:
        scores: [examples, 4], as returned by `hf_scorevi.predictive.per_example_scores`: log probability of the label
            (nats, -inf for zero), confidence, 1 where the prediction is the label and 0 elsewhere, Brier score. Array,
            tensor or nested list.
        num_bins: number of bins of the ECE, at least 1.

    Returns:
        `{"accuracy": float, "nll": float, "ece": float, "ece_bins": int, "brier": float}`

    Raises:
        ValueError: wrong shape, empty input, values out of range, num_bins < 1.
    """
    array = as_array(scores, "scores")
    if array.ndim != 2 or array.shape[1] != 4 or array.size == 0:
        raise ValueError(f"scores must have the shape [examples, 4], at least one example, not {list(array.shape)}")
    refuse_not_real(array, "scores")
    log_likelihoods, confidences, correct, briers = array.astype(np.float64).T
    # Each bound is wide enough for rows that sum to one as loosely as the other metrics take them.
    _refuse(~(log_likelihoods <= SUM_TOLERANCE), log_likelihoods, "a log probability, at most 0")
    _refuse(~((confidences >= 0.0) & (confidences <= 1.0 + SUM_TOLERANCE)), confidences, "a confidence in [0, 1]")
    _refuse((correct != 0.0) & (correct != 1.0), correct, "0 or 1 for a prediction that is wrong or right")
    _refuse(~((briers >= 0.0) & (briers <= 2.0 + 4 * SUM_TOLERANCE)), briers, "a Brier score in [0, 2]")
    bins = bin_confidences(confidences, correct == 1.0, num_bins)
    return {
        "accuracy": float(correct.mean()),
        "nll": float(0.0 - log_likelihoods.mean()),  # 0 - x, because -0.0 would be printed as such
        "ece": bins.ece,
        "ece_bins": int(num_bins),
        "brier": float(briers.mean()),
    }


def _refuse(bad: npt.NDArray[np.bool_], column: npt.NDArray[np.float64], meaning: str) -> None:
    if bad.any():
        index = int(bad.argmax())
        raise ValueError(f"row {index} of scores has {column[index]:g} in the place of {meaning}")
