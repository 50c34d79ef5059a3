"""Accuracy: how often the most probable class is the right one."""

import numpy.typing as npt

from hf_scorevi.metrics.chunks import top_label
from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.inputs import check_probabilities

FIGURES = (Figure("accuracy", "accuracy", greater_is_better=True),)


def accuracy(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """Compute the share of examples whose most probable class is the label, in [0, 1].

    Among equally probable classes the one of lowest index is the prediction, as with `argmax`.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.

    Returns:
        `{"accuracy": float}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range.
    """
    checked, targets = check_probabilities(probabilities, labels)
    _, predictions = top_label(checked)
    return {"accuracy": float((predictions == targets).mean())}
