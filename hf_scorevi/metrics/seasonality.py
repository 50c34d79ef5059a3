"""The error in the past of a forecast that repeats the last season: the scale of MASE and MSIS."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.forecasts import refuse_not_finite
from hf_scorevi.metrics.inputs import as_array, check_positive, refuse_not_real


def seasonal_errors(history: Sequence[npt.ArrayLike], season_length: int = 1) -> npt.NDArray[np.float64]:
    """Compute the mean of |y_t - y_{t-m}| over the history of each series, with m = `season_length`.

    For h forecast values of each series, series after series, `np.repeat(seasonal_errors(history), h)` is what `mase`
    and `msis` take. It is zero for a constant series, which they refuse.

    Args:
        history: the values before the forecast of each series, which may differ in length: [series][time].
        season_length: m, at least 1, which is the naive forecast. (Some libraries fall back to it silently where a
            history is too short; here that is an error.)

    Returns:
        [series]

    Raises:
        ValueError: no series, a history not longer than a season, NaN or infinity, season_length < 1.

    Source: Hyndman and Koehler, "Another look at measures of forecast accuracy", International Journal of Forecasting
    2006.
    """
    check_positive("season_length", season_length, "1 is the naive forecast")
    if len(history) == 0:
        raise ValueError("history is empty: give the past of at least one series")
    return np.array([_error(series, f"history[{i}]", int(season_length)) for i, series in enumerate(history)])


def _error(series: npt.ArrayLike, name: str, season_length: int) -> float:
    values = as_array(series, name)
    if values.ndim != 1 or len(values) <= season_length:
        raise ValueError(
            f"{name} must have the shape [time] with more than season_length = {season_length} values, not "
            f"{list(values.shape)}: give more of the past, or a shorter season_length"
        )
    refuse_not_real(values, name)
    refuse_not_finite(values, name)
    past = values.astype(np.float64)
    return float(np.abs(past[season_length:] - past[:-season_length]).mean())
