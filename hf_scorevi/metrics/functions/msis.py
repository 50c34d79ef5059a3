"""Score of central prediction intervals, relative to the error of a seasonal forecast in the past."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.forecasts import (
    central_interval,
    check_levels,
    check_seasonal_errors,
    forecast_chunks,
    interval_scores,
)
from hf_scorevi.metrics.inputs import as_array

FIGURES = (
    Figure("msis", "MSIS", greater_is_better=False),
    Figure("interval_score", "interval score", greater_is_better=False, unit="target"),
)


def msis(
    samples: npt.ArrayLike, targets: npt.ArrayLike, seasonal_errors: npt.ArrayLike, level: float = 0.95
) -> dict[str, Any]:
    """Compute the mean over examples of the interval score / seasonal error; lower is better.

    The interval score is Winkler's, as in `interval_coverage`: the width of the central interval of this level + 2 /
    (1 - level) times the distance of the target from it. With the same horizon for all series the mean over examples
    is the mean over series of the usual MSIS.

    Args:
        samples: [examples, samples] of the predictive. Array, tensor or nested list.
        targets: [examples], the observed values.
        seasonal_errors: [examples], of the history of the example's series, more than zero
            (`hf_scorevi.metrics.seasonal_errors`).
        level: of the interval, between 0 and 1.

    Returns:
        `{"msis": float, "interval_score": float, "level": float, "interval": "central", "quantiles": "linear",
        "num_samples": int}`, where interval_score is not scaled.

    Raises:
        ValueError: wrong shapes, empty input, NaN or infinity, seasonal errors that are not positive, level outside
            (0, 1).

    Source: Makridakis, Spiliotis and Assimakopoulos, "The M4 Competition", International Journal of Forecasting 2020;
    Gneiting and Raftery, JASA 2007.
    """
    (checked,) = check_levels([level], "level")
    scales = check_seasonal_errors(seasonal_errors, as_array(targets, "targets").size)
    scores = np.empty_like(scales)
    num_samples = 0
    for rows, values, observed in forecast_chunks(samples, targets, "samples", ("examples", "samples")):
        num_samples = values.shape[1]
        scores[rows] = interval_scores(*central_interval(values, checked), observed, checked)
    return {
        "msis": float((scores / scales).mean()),
        "interval_score": float(scores.mean()),
        "level": float(level),
        "interval": "central",
        "quantiles": "linear",
        "num_samples": num_samples,
    }
