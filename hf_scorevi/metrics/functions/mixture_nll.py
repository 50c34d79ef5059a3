"""Negative log-likelihood under mixtures of Gaussians."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.forecasts import gaussian_chunks

FIGURES = (Figure("mixture_nll", "NLL", greater_is_better=False, unit="nats"),)


def mixture_nll(means: npt.ArrayLike, standard_deviations: npt.ArrayLike, targets: npt.ArrayLike) -> dict[str, Any]:
    """Compute the mean over examples of -log (1/K) Σ_k N(y; μ_k, s_k²), in nats; a proper score, lower is better.

    The predictive of a Bayesian regression is such a mixture: one component for each draw of the weights. This is the
    score of the mixture, not the mean of the components' scores, which is never smaller, and not that of one Gaussian
    at the mean. A density has a unit: changing that of the targets by a factor c adds log c, and the score may be
    negative. Compare it on one scale only.

    Args:
        means: [examples, components]. Array, tensor or nested list.
        standard_deviations: a number, [examples], or [examples, components]; more than zero.
        targets: [examples], the observed values.

    Returns:
        `{"mixture_nll": float, "num_components": int, "weights": "equal", "unit": "nats"}`

    Raises:
        ValueError: wrong shapes, empty input, NaN or infinity, a standard deviation that is not positive.

    Source: Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 2007;
    Lakshminarayanan et al., NeurIPS 2017 (arXiv 1612.01474), for the equal weights.
    """
    total = 0.0
    num_examples = num_components = 0
    for rows, centres, widths, observed in gaussian_chunks(means, standard_deviations, targets):
        if widths.min() == 0.0:
            index = rows.start + int((widths.min(axis=1) == 0.0).argmax())
            raise ValueError(f"row {index} of standard_deviations holds zero: a point has no density")
        num_examples += len(centres)
        num_components = centres.shape[1]
        centres -= observed[:, None]
        with np.errstate(over="ignore"):  # a log density of -inf is the answer, not an accident
            centres /= widths
            centres *= centres
        centres *= -0.5
        centres -= np.log(widths, out=widths)
        largest = centres.max(axis=1, keepdims=True)
        # Where all densities are zero the largest is -inf, and so is the sum.
        np.exp(np.subtract(centres, np.where(np.isfinite(largest), largest, 0.0), out=centres), out=centres)
        with np.errstate(divide="ignore"):
            log_sum = np.log(centres.sum(axis=1)) + np.where(np.isfinite(largest), largest, 0.0)[:, 0]
        total -= float(log_sum.sum())
    return {
        "mixture_nll": total / num_examples + math.log(num_components) + 0.5 * math.log(2.0 * math.pi),
        "num_components": num_components,
        "weights": "equal",
        "unit": "nats",
    }
