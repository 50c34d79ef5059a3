"""Checks of inputs that the metrics of forecasts share, and passes over them a few rows at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.chunks import row_chunks
from hf_scorevi.metrics.inputs import as_array, refuse_not_real

Floats = npt.NDArray[np.float64]


def forecast_chunks(
    predictions: npt.ArrayLike, targets: npt.ArrayLike, name: str, axes: Sequence[str]
) -> Iterator[tuple[slice, Floats, Floats]]:
    """Yield a few rows of `predictions` and `targets` at a time, in float64: the slice, a copy of the one, the other.

    `axes` names those of the predictions: [examples, samples], say, or [examples, samples, dimensions], where the
    targets are [examples, dimensions].
    """
    array = _check_shape(as_array(predictions, name), name, axes)
    expected = array.shape[:1] + array.shape[2:]
    observed = check_per_example(targets, expected, "targets")
    for rows in row_chunks(len(array), array[0].size):
        values = array[rows].astype(np.float64, order="C")
        refuse_not_finite(values, name, rows.start)
        yield rows, values, observed[rows]


def gaussian_chunks(
    means: npt.ArrayLike, standard_deviations: npt.ArrayLike, targets: npt.ArrayLike
) -> Iterator[tuple[slice, Floats, Floats, Floats]]:
    """Yield rows like `forecast_chunks`, of the means and deviations [rows, components] of Gaussian mixtures."""
    deviations = as_array(standard_deviations, "standard_deviations")
    shape = as_array(means, "means").shape
    allowed = ((), shape[:1], shape)
    if deviations.shape not in allowed:
        raise ValueError(
            f"standard_deviations must be a number or have the shape {list(shape[:1])} or {list(shape)} of the means, "
            f"not {list(deviations.shape)}"
        )
    refuse_not_real(deviations, "standard_deviations")
    table = np.broadcast_to(deviations if deviations.ndim != 1 else deviations[:, None], shape)
    for rows, centres, observed in forecast_chunks(means, targets, "means", ("examples", "components")):
        widths = table[rows].astype(np.float64, order="C")
        refuse_not_finite(widths, "standard_deviations", rows.start)
        if widths.min() < 0:
            index = rows.start + int((widths.min(axis=1) < 0).argmax())
            raise ValueError(f"row {index} of standard_deviations holds a negative value: take exp of a logarithm")
        yield rows, centres, widths, observed


def check_per_example(values: npt.ArrayLike, shape: tuple[int, ...], name: str) -> Floats:
    """Check values of this shape, and return them as float64."""
    array = as_array(values, name)
    if array.shape != shape:
        raise ValueError(
            f"{name} must have the shape {list(shape)} that fits the predictions, not {list(array.shape)}"
        )
    refuse_not_real(array, name)
    refuse_not_finite(array, name)
    return array.astype(np.float64, copy=False)


def check_seasonal_errors(values: npt.ArrayLike, num_examples: int) -> Floats:
    """Check seasonal errors [examples], and return them as float64."""
    array = check_per_example(values, (num_examples,), "seasonal_errors")
    if (array <= 0).any():
        index = int((array <= 0).argmax())
        raise ValueError(
            f"seasonal_errors[{index}] is {array[index]:g}: it must be positive; leave out series whose "
            "history is constant"
        )
    return array


def check_levels(levels: Sequence[float] | npt.NDArray[np.float64], name: str = "levels") -> Floats:
    """Check levels strictly between 0 and 1, at least one, and return them as float64."""
    array = np.asarray(levels, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not ((array > 0.0) & (array < 1.0)).all():
        raise ValueError(f"{name} must lie between 0 and 1, both excluded, at least one, not {levels!r}")
    return array


def check_estimator(estimator: str) -> None:
    """Raise a ValueError unless there is such an estimator of E|X - X'|."""
    if estimator not in ("fair", "biased"):
        raise ValueError(f'estimator must be "fair" or "biased", not {estimator!r}')


def num_pairs(num_samples: int, estimator: str) -> int:
    """Return the number that a sum over ordered pairs of samples is divided by; for one sample the sum is zero."""
    return max(num_samples * (num_samples - 1 if estimator == "fair" else num_samples), 1)


def central_interval(samples: Floats, level: float) -> tuple[Floats, Floats]:
    """Return bounds [rows] of the interval that leaves out (1 - level) / 2 of `samples` [rows, samples] on each side.

    The rows may be reordered.
    """
    tail = (1.0 - level) / 2.0
    lower, upper = np.quantile(samples, [tail, 1.0 - tail], axis=1, overwrite_input=True)
    return lower, upper


def interval_scores(lower: Floats, upper: Floats, targets: Floats, level: float) -> Floats:
    """Return Winkler's score of each interval: its width, and 2 / (1 - level) times the target's distance from it."""
    outside = np.maximum(lower - targets, 0.0) + np.maximum(targets - upper, 0.0)
    return upper - lower + 2.0 / (1.0 - level) * outside


def refuse_not_finite(array: npt.NDArray[Any], name: str, first_row: int = 0) -> None:
    """Raise a ValueError for the first row that holds NaN or infinity."""
    finite = np.isfinite(array)
    if not finite.all():
        index = first_row + int((~finite).reshape(len(array), -1).any(axis=1).argmax())
        raise ValueError(
            f"row {index} of {name} holds NaN or infinity: leave out missing values, or the model overflowed"
        )


def _check_shape(array: npt.NDArray[Any], name: str, axes: Sequence[str]) -> npt.NDArray[Any]:
    if array.ndim != len(axes) or array.size == 0:
        raise ValueError(
            f"{name} must have the shape [{', '.join(axes)}], none of them empty, not {list(array.shape)}: "
            "an example is one forecast; flatten series, horizon and channels into one axis"
        )
    refuse_not_real(array, name)
    return array
