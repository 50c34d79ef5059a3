"""How often central prediction intervals hold the observed values, and how wide they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.forecasts import central_interval, check_levels, forecast_chunks, interval_scores

FIGURES = (
    Figure("interval_coverage", "coverage of intervals", greater_is_better=None),
    Figure("mean_width", "width of intervals", greater_is_better=None, unit="target"),
    Figure("interval_score", "interval score", greater_is_better=False, unit="target"),
    *(Figure(f"coverage_{n}", f"{n} % coverage", greater_is_better=None) for n in range(1, 100)),  # in an evaluation
)


def interval_coverage(
    samples: npt.ArrayLike, targets: npt.ArrayLike, levels: Sequence[float] = (0.5, 0.8, 0.9, 0.95)
) -> dict[str, Any]:
    """Compute coverage, mean width and interval score of the central intervals of each level.

    The interval of level 1 - α reaches from the α/2- to the (1 - α/2)-quantile of the samples, by linear interpolation
    between them; its ends belong to it. `coverage` (PICP) is the share of examples whose target lies in it and should
    be the level; `mean_width` (MPIW) is the price of it; `interval_score` (Winkler's) is proper and combines both:
    width + 2/α times the distance of the target from the interval. Interpolated intervals of few samples are too
    narrow: of M samples of the true distribution they cover about (1 - α) (M - 1) / (M + 1).

    Args:
        samples: [examples, samples] of the predictive. Array, tensor or nested list.
        targets: [examples], the observed values.
        levels: between 0 and 1.

    Returns:
        `{"interval_coverage": list, "mean_width": list, "interval_score": list, "levels": list, "num_samples": int,
        "interval": "central", "quantiles": "linear"}`, lists with one entry for each level.

    Raises:
        ValueError: wrong shapes, empty input, NaN or infinity, levels outside (0, 1).

    Source: Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 2007;
    Winkler, "A Decision-Theoretic Approach to Interval Estimation", JASA 1972.
    """
    checked = check_levels(levels)
    covered, width, score = np.zeros((3, len(checked)))
    num_examples = num_samples = 0
    for _, values, observed in forecast_chunks(samples, targets, "samples", ("examples", "samples")):
        num_examples += len(values)
        num_samples = values.shape[1]
        for i, level in enumerate(checked):
            lower, upper = central_interval(values, level)
            covered[i] += ((lower <= observed) & (observed <= upper)).sum()
            width[i] += (upper - lower).sum()
            score[i] += interval_scores(lower, upper, observed, level).sum()
    return {
        "interval_coverage": (covered / num_examples).tolist(),
        "mean_width": (width / num_examples).tolist(),
        "interval_score": (score / num_examples).tolist(),
        "levels": checked.tolist(),
        "num_samples": num_samples,
        "interval": "central",
        "quantiles": "linear",
    }
