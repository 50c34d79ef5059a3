"""The continuous ranked probability score of several values at once."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.forecasts import Floats, check_estimator, forecast_chunks, num_pairs

FIGURES = (
    Figure("energy_score", "energy score", greater_is_better=False, unit="target"),
    Figure("distance", "distance", greater_is_better=False, unit="target"),
    Figure("half_spread", "half the spread", greater_is_better=None, unit="target"),
)


def energy_score(
    samples: npt.ArrayLike, targets: npt.ArrayLike, estimator: Literal["fair", "biased"] = "fair"
) -> dict[str, Any]:
    """Compute the mean over examples of E‖X - y‖ - E‖X - X'‖ / 2; a proper score, lower is better.

    Unlike the `crps` of each dimension it depends on how dimensions vary together; of one dimension it is `crps`. The
    dimensions may be the horizon, the channels, or both: report which, and standardise channels of different units.
    The estimators are those of `crps`: the mean over M (M - 1) pairs of different samples, or over all M². Of one
    sample both are the distance. The work grows with the square of the number of samples.

    Args:
        samples: [examples, samples, dimensions] of the predictive. Array, tensor or nested list.
        targets: [examples, dimensions], the observed values.
        estimator: "fair" or "biased".

    Returns:
        `{"energy_score": float, "distance": float, "half_spread": float, "estimator": str, "num_samples": int,
        "num_dimensions": int, "norm": "euclidean"}`, where energy_score is distance, the mean of ‖X - y‖, minus
        half_spread, that of ‖X - X'‖ / 2.

    Raises:
        ValueError: wrong shapes, empty input, NaN or infinity, no such estimator.

    Source: Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 2007
    with exponent 1.
    """
    check_estimator(estimator)
    distance = spread = 0.0
    num_examples = num_samples = num_dimensions = 0
    for _, values, observed in forecast_chunks(samples, targets, "samples", ("examples", "samples", "dimensions")):
        num_examples += len(values)
        _, num_samples, num_dimensions = values.shape
        values -= observed[:, None]
        distance += float(_norms(values).sum()) / num_samples
        pairs = sum(float(_norms(values[:, i + 1 :] - values[:, i, None]).sum()) for i in range(num_samples - 1))
        spread += pairs / num_pairs(num_samples, estimator)  # of each two samples one pair: half the sum
    return {
        "energy_score": (distance - spread) / num_examples,
        "distance": distance / num_examples,
        "half_spread": spread / num_examples,
        "estimator": estimator,
        "num_samples": num_samples,
        "num_dimensions": num_dimensions,
        "norm": "euclidean",
    }


def _norms(vectors: Floats) -> Floats:
    return np.sqrt(np.einsum("...d,...d->...", vectors, vectors))
