"""Brier score: the squared distance between the probabilities and what happened; a strictly proper score."""

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics._chunks import row_chunks
from hf_scorevi.metrics._inputs import check_probabilities


def brier(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """Mean over examples of the sum over classes of (p_c - [c is the label])², in [0, 2].

    This is Brier's own definition. Some libraries give half of it for two classes, or a mean over classes.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.

    Returns:
        `{"brier": float}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range.

    Source: Brier, "Verification of forecasts expressed in terms of probability", Mon. Weather Rev. 78 (1950).
    """
    checked, targets = check_probabilities(probabilities, labels)
    total = 0.0
    for rows in row_chunks(*checked.shape):
        errors = checked[rows].astype(np.float64)
        errors[np.arange(len(errors)), targets[rows]] -= 1.0
        total += float(np.square(errors, out=errors).sum())
    return {"brier": total / len(targets)}
