"""Shared parts of plots of several models: named predictions, and rates with their intervals."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics import wilson_interval
from hf_scorevi.metrics.chunks import top_label
from hf_scorevi.metrics.inputs import check_probabilities
from hf_scorevi.plots._style import look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Predictions = tuple[npt.ArrayLike, npt.ArrayLike]
LINES = ("-", "--", "-.", ":")  # told apart in grey too, where a line has too many points for markers
FEW = 20  # points that have markers


def require_entries(name: str, entries: Mapping[str, Any], entry: str) -> None:
    """Raise a ValueError if `entries`, the argument called `name`, is empty; `entry` describes one of its values."""
    if not entries:
        raise ValueError(f"{name} is empty: give at least one entry, name -> {entry}")


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Name the curve in every ValueError that is raised inside the `with`."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"curve {name!r}: {error}") from error


def top_labels(
    curves: Mapping[str, Predictions],
) -> Iterator[tuple[str, int, npt.NDArray[np.float64], npt.NDArray[np.bool_]]]:
    """Yield the name, number of classes, confidences [examples] and whether they were right [examples] of each curve.

    Raises:
        ValueError: no curve, or one that is no (probabilities, labels); the message names it.
    """
    require_entries("curves", curves, "(probabilities, labels)")
    for name, curve in curves.items():
        with named_errors(name):
            if not isinstance(curve, Sequence) or len(curve) != 2:
                raise ValueError("give (probabilities, labels)")
            probabilities, labels = check_probabilities(*curve)
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
    """Draw the line of the `index`-th curve in a band of 95 % Wilson intervals of its `rates` among `counts` > 0."""
    color, marker = look(index)
    low, high = wilson_interval(rates, counts)
    line, points = LINES[index % len(LINES)], marker if len(x) <= FEW else None
    axes.plot(x, rates, color=color, linestyle=line, linewidth=1.8, marker=points, markersize=4, label=label)
    axes.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0)


def rate_points(
    axes: "Axes",
    index: int,
    x: npt.NDArray[np.float64],
    rates: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    label: str | None,
    minus: npt.NDArray[np.float64] | float = 0.0,
) -> None:
    """Draw the points of the `index`-th curve, its `rates` - `minus`, with the 95 % Wilson intervals of the rates."""
    color, marker = look(index)
    low, high = wilson_interval(rates, counts)
    axes.errorbar(
        x,
        rates - minus,
        yerr=(np.maximum(rates - low, 0.0), np.maximum(high - rates, 0.0)),  # 0 and 1 round to just outside
        color=color,
        marker=marker,
        markersize=5.5,
        linewidth=1.6,
        elinewidth=1.0,
        capsize=2.5,
        label=label,
    )
