"""The figures that are reported for a classifier, in one call."""

import numpy.typing as npt

from hf_scorevi.metrics.functions.accuracy import accuracy
from hf_scorevi.metrics.functions.adaptive_ece import adaptive_ece
from hf_scorevi.metrics.functions.brier import brier
from hf_scorevi.metrics.functions.classwise_ece import classwise_ece
from hf_scorevi.metrics.functions.ece import ece
from hf_scorevi.metrics.functions.nll import nll
from hf_scorevi.metrics.inputs import as_array


def classification_metrics(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15
) -> dict[str, float | int]:
    """Compute accuracy, NLL (nats per example), three calibration errors and Brier score (0 to 2).

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.
        num_bins: number of bins of the calibration errors, at least 1.

    Returns:
        `{"accuracy": float, "nll": float, "ece": float, "ece_bins": int, "classwise_ece": float,
        "adaptive_ece": float, "brier": float}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, num_bins < 1.
    """
    array = as_array(probabilities, "probabilities")  # once here, so that a tensor leaves its device once
    targets = as_array(labels, "labels")
    return {
        "accuracy": accuracy(array, targets)["accuracy"],
        "nll": nll(array, targets)["nll"],
        "ece": ece(array, targets, num_bins)["ece"],
        "ece_bins": int(num_bins),
        "classwise_ece": classwise_ece(array, targets, num_bins)["classwise_ece"],
        "adaptive_ece": adaptive_ece(array, targets, num_bins)["adaptive_ece"],
        "brier": brier(array, targets)["brier"],
    }
