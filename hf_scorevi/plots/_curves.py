"""What the pictures of several classifiers have in common: named predictions, and lines with bands."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics import wilson_interval
from hf_scorevi.metrics.chunks import top_label
from hf_scorevi.metrics.inputs import check_probabilities
from hf_scorevi.plots._style import COLORS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Predictions = tuple[npt.ArrayLike, npt.ArrayLike]
LINES = ("-", "--", "-.", ":")  # told apart in grey too, where a line has too many points for markers
FEW = 20  # points that have markers


def top_labels(
    curves: Mapping[str, Predictions],
) -> Iterator[tuple[str, int, npt.NDArray[np.float64], npt.NDArray[np.bool_]]]:
    """Name, number of classes, confidences [examples] and whether they were right [examples] of each curve.

    Raises:
        ValueError: no curve, or one that is no (probabilities, labels); the message names it.
    """
    if not curves:
        raise ValueError("curves is empty: give at least one entry, name -> (probabilities, labels)")
    for name, curve in curves.items():
        if not isinstance(curve, Sequence) or len(curve) != 2:
            raise ValueError(f"curve {name!r}: give (probabilities, labels)")
        try:
            probabilities, labels = check_probabilities(*curve)
        except ValueError as error:
            raise ValueError(f"curve {name!r}: {error}") from error
        confidences, predictions = top_label(probabilities)
        yield name, probabilities.shape[1], confidences, predictions == labels


def rate_line(
    axes: "Axes",
    index: int,
    x: npt.NDArray[np.float64],
    rates: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    label: str,
) -> None:
    """The line of the `index`-th curve in a band of 95 % Wilson intervals of its `rates` among `counts` > 0."""
    color = COLORS[index % len(COLORS)]
    low, high = wilson_interval(rates, counts)
    marker = MARKERS[index % len(MARKERS)] if len(x) <= FEW else None
    line = LINES[index % len(LINES)]
    axes.plot(x, rates, color=color, linestyle=line, linewidth=1.8, marker=marker, markersize=4, label=label)
    axes.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0)
