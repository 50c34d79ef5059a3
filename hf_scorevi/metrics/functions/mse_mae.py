"""Squared and absolute error of the predictive mean."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.forecasts import forecast_chunks

FIGURES = (
    Figure("mse", "MSE", greater_is_better=False, unit="target²"),
    Figure("rmse", "RMSE", greater_is_better=False, unit="target"),
    Figure("mae", "MAE", greater_is_better=False, unit="target"),
)


def mse_mae(samples: npt.ArrayLike, targets: npt.ArrayLike) -> dict[str, Any]:
    """Compute the mean over examples of (y - mean)² and |y - mean|, with the mean over the samples of the predictive.

    Forecasting papers report both. They do not measure the uncertainty, and M samples add their variance / M to the
    squared error: give the means of the draws instead of samples with noise where there are any. The mean is the best
    point for the squared error; for the absolute one that is the median, as in `mase`.

    Args:
        samples: [examples, samples] of the predictive; a point forecast is one sample. Array, tensor or nested list.
        targets: [examples], the observed values.

    Returns:
        `{"mse": float, "rmse": float, "mae": float, "point": "mean", "num_samples": int}`

    Raises:
        ValueError: wrong shapes, empty input, NaN or infinity.

    Source: Hyndman and Koehler, "Another look at measures of forecast accuracy", International Journal of Forecasting
    2006.
    """
    squared = absolute = 0.0
    num_examples = num_samples = 0
    for _, values, observed in forecast_chunks(samples, targets, "samples", ("examples", "samples")):
        num_examples += len(values)
        num_samples = values.shape[1]
        errors = observed - values.mean(axis=1)
        squared += float(np.square(errors).sum())
        absolute += float(np.abs(errors).sum())
    return {
        "mse": squared / num_examples,
        "rmse": math.sqrt(squared / num_examples),
        "mae": absolute / num_examples,
        "point": "mean",
        "num_samples": num_samples,
    }
