"""Continuous ranked probability score of mixtures of Gaussians, in closed form."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.forecasts import Floats, gaussian_chunks

FIGURES = (Figure("crps_gaussian_mixture", "CRPS", greater_is_better=False, unit="target"),)


def crps_gaussian_mixture(
    means: npt.ArrayLike, standard_deviations: npt.ArrayLike, targets: npt.ArrayLike
) -> dict[str, Any]:
    """Compute the mean over examples of the CRPS of equally weighted mixtures of Gaussians.

    It has the unit of the targets. The predictive of a Bayesian regression is such a mixture: one component for each
    draw of the weights. With A(μ, s) = E|N(μ, s²)| = 2 s φ(μ / s) + μ (2 Φ(μ / s) - 1) the score is the mean over
    components of A(y - μ_i, s_i) minus half the mean over all pairs of A(μ_i - μ_j, √(s_i² + s_j²)). It is exact for
    this mixture, as the biased estimator of `crps` is for samples: as an estimate for infinitely many draws it is a
    little too large while they are few. A standard deviation of zero is a point. The work grows with the square of the
    number of components.

    Args:
        means: [examples, components]. Array, tensor or nested list.
        standard_deviations: a number, [examples], or [examples, components]; zero or more.
        targets: [examples], the observed values.

    Returns:
        `{"crps_gaussian_mixture": float, "num_components": int, "weights": "equal"}`

    Raises:
        ValueError: wrong shapes, empty input, NaN or infinity, a negative standard deviation.

    Source: Grimit et al., "The continuous ranked probability score for circular variables and its application to
    mesoscale forecast ensemble verification", Quarterly Journal of the Royal Meteorological Society 2006.
    """
    total = 0.0
    num_examples = num_components = 0
    for _, centres, widths, observed in gaussian_chunks(means, standard_deviations, targets):
        num_examples += len(centres)
        num_components = centres.shape[1]
        total += float(_mean_absolute(observed[:, None] - centres, widths).sum()) / num_components
        spread = _mean_absolute(np.zeros_like(widths), math.sqrt(2.0) * widths).sum()  # of i = j
        for i in range(num_components - 1):
            others = slice(i + 1, None)
            between = np.hypot(widths[:, others], widths[:, i, None])
            spread += 2.0 * _mean_absolute(centres[:, others] - centres[:, i, None], between).sum()
        total -= float(spread) / (2 * num_components**2)
    return {
        "crps_gaussian_mixture": total / num_examples,
        "num_components": num_components,
        "weights": "equal",
    }


def _mean_absolute(mean: Floats, deviation: Floats) -> Floats:
    """Return E|N(mean, deviation²)|."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # a deviation of zero, or next to it
        z = mean / deviation
        z[deviation == 0.0] = np.inf
        result = deviation * math.sqrt(2.0 / math.pi) * np.exp(-0.5 * z * z)
    # numpy has no erf; a buffer hands out floats without a list of them.
    z *= math.sqrt(0.5)
    erf = np.fromiter(map(math.erf, z.ravel().data), np.float64, z.size).reshape(z.shape)
    result += np.abs(mean * erf)
    return result
