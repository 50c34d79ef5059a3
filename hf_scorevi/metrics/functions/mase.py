"""Absolute error of the median, relative to that of a seasonal forecast in the past."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.forecasts import check_seasonal_errors, forecast_chunks
from hf_scorevi.metrics.inputs import as_array

FIGURES = (
    Figure("mase", "MASE", greater_is_better=False),
    Figure("absolute_error", "absolute error", greater_is_better=False, unit="target"),
)


def mase(samples: npt.ArrayLike, targets: npt.ArrayLike, seasonal_errors: npt.ArrayLike) -> dict[str, Any]:
    """Compute the mean over examples of |y - median| / seasonal error; lower is better.

    Below 1 the forecast is better than repeating the last season. The median of the samples is the point forecast of
    the smallest expected absolute error. With the same horizon for all series the mean over examples is the mean over
    series of the usual MASE.

    Args:
        samples: [examples, samples] of the predictive; a point forecast is one sample. Array, tensor or nested list.
        targets: [examples], the observed values.
        seasonal_errors: [examples], of the history of the example's series, more than zero
            (`hf_scorevi.metrics.seasonal_errors`).

    Returns:
        `{"mase": float, "absolute_error": float, "point": "median", "num_samples": int}`, where absolute_error is not
        scaled.

    Raises:
        ValueError: wrong shapes, empty input, NaN or infinity, seasonal errors that are not positive.

    Source: Hyndman and Koehler, "Another look at measures of forecast accuracy", International Journal of Forecasting
    2006.
    """
    scales = check_seasonal_errors(seasonal_errors, as_array(targets, "targets").size)
    errors = np.empty_like(scales)
    num_samples = 0
    for rows, values, observed in forecast_chunks(samples, targets, "samples", ("examples", "samples")):
        num_samples = values.shape[1]
        errors[rows] = np.abs(np.median(values, axis=1, overwrite_input=True) - observed)
    return {
        "mase": float((errors / scales).mean()),
        "absolute_error": float(errors.mean()),
        "point": "median",
        "num_samples": num_samples,
    }
