"""Continuous ranked probability score of forecasts that are samples."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.forecasts import check_estimator, forecast_chunks, num_pairs

FIGURES = (
    Figure("crps", "CRPS", greater_is_better=False, unit="target"),
    Figure("absolute_error", "absolute error", greater_is_better=False, unit="target"),
    Figure("half_spread", "half the spread", greater_is_better=None, unit="target"),
)


def crps(
    samples: npt.ArrayLike, targets: npt.ArrayLike, estimator: Literal["fair", "biased"] = "fair"
) -> dict[str, Any]:
    """Compute the mean over examples of E|X - y| - E|X - X'| / 2; a proper score, lower is better.

    It has the unit of the targets. X and X' are independent draws of the predictive, of which M samples are given. E|X
    - X'| is estimated by the mean over pairs: of M (M - 1) pairs of different samples ("fair"), which is unbiased, or
    of all M² ("biased"), which is the score of the samples' empirical distribution, and too large by E|X - X'| / (2M)
    as the score of the distribution that they were drawn from. Neither is negative. Of one sample both are the
    absolute error, for a point forecast has no spread. Of sorted samples the sum over pairs is one over samples: the
    work is M log M an example.

    Args:
        samples: [examples, samples] of the predictive. Array, tensor or nested list.
        targets: [examples], the observed values.
        estimator: "fair" or "biased".

    Returns:
        `{"crps": float, "absolute_error": float, "half_spread": float, "estimator": str, "num_samples": int}`, where
        crps is the mean of |X - y|, absolute_error, minus that of |X - X'| / 2, half_spread.

    Raises:
        ValueError: wrong shapes, empty input, NaN or infinity, no such estimator.

    Source: Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 2007;
    the fair estimator is Ferro's, Quarterly Journal of the Royal Meteorological Society 2014.
    """
    check_estimator(estimator)
    error = spread = 0.0
    num_examples = num_samples = 0
    for _, values, observed in forecast_chunks(samples, targets, "samples", ("examples", "samples")):
        num_samples = values.shape[1]
        num_examples += len(values)
        values -= observed[:, None]  # before the sums, so that a large common offset does not cost digits
        values.sort(axis=1)
        # Σ over ordered pairs of |x - x'| / 2 = Σ over i of (2i - M + 1) x_(i), counted from zero in ascending order.
        weights = np.arange(1.0 - num_samples, num_samples, 2.0) / num_pairs(num_samples, estimator)
        spread += float((values @ weights).sum())
        error += float(np.abs(values, out=values).sum()) / num_samples
    return {
        "crps": (error - spread) / num_examples,
        "absolute_error": error / num_examples,
        "half_spread": spread / num_examples,
        "estimator": estimator,
        "num_samples": num_samples,
    }
