"""Calibration error in the l2 norm without the bias of small bins, and with an interval."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.bootstrap import check_bootstrap, resamples
from hf_scorevi.metrics.chunks import top_label
from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.inputs import check_num_bins, check_probabilities
from hf_scorevi.metrics.reliability import bin_numbers

FIGURES = (
    Figure("debiased_ece", "debiased ECE", greater_is_better=False, is_binned=True),
    Figure("squared", "squared debiased ECE", greater_is_better=False, is_binned=True),
    Figure("low", "lower bound", greater_is_better=None, is_binned=True),
    Figure("high", "upper bound", greater_is_better=None, is_binned=True),
)


def debiased_ece(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    num_bins: int = 15,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute the root mean square over examples of the gap of the example's bin, in [0, 1], debiased.

    Top-label, with the bins of `ece`; the gap is |accuracy - mean confidence|. In a bin of n examples let g be the
    mean and s² the sample variance (divisor n - 1) of correct - confidence. g² overestimates the square of the bin's
    true gap by s²/n on average, so that a calibrated model seems miscalibrated; g² - s²/n does not. `squared` is its
    mean over examples, and may be negative where the model is calibrated; `debiased_ece` is the root of it, or 0. The
    variance in a bin of one example is unknown: it counts as a gap of zero, and `single_bins` is the number of such
    bins. Gaps that cancel within a bin are not noticed.

    The interval is a basic bootstrap of `squared`: with θ its estimate, θ* that of a resample, and θ_plugin the mean
    of g², which θ* estimates in the resampled world, the bounds are θ minus quantiles of θ* - θ_plugin. Percentiles of
    θ* would be biased: resampled data are less calibrated than the data by θ_plugin - θ. `low` and `high` are the
    roots of the bounds, clipped to [0, 1]. Near zero the interval is wider than necessary, and with bins of two or
    three examples it is rough.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.
        num_bins: number of bins, of equal width on [0, 1] and closed on the right, at least 1.
        num_resamples: number of bootstrap resamples, at least 1.
        level: of the interval, between 0 and 1.
        seed: of the resamples.

    Returns:
        `{"debiased_ece": float, "squared": float, "low": float, "high": float, "level": float, "num_resamples": int,
        "seed": int, "num_bins": int, "single_bins": int, "binning": "equal_width", "norm": "l2"}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, num_bins or
            num_resamples < 1, level outside (0, 1).

    Source: Kumar, Liang and Ma, "Verified Uncertainty Calibration", NeurIPS 2019 (arXiv 1909.10155), with the
    sample variance in the place of that of a model with one output a bin; Sun et al., "A Confidence Interval for the
    l2 Expected Calibration Error", 2024 (arXiv 2408.08998), whose interval is of asymptotic theory and shorter.
    """
    check_num_bins(num_bins)
    check_bootstrap(num_resamples, level)
    checked, targets = check_probabilities(probabilities, labels)
    confidences, predictions = top_label(checked)
    bins = bin_numbers(confidences, num_bins)
    single = np.bincount(bins, minlength=num_bins) == 1
    gaps = np.where(single[bins], 0.0, (predictions == targets) - confidences)  # of a bin of one, in resamples too
    squares = np.square(gaps)

    def sums(counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], ...]:
        return tuple(np.bincount(bins, weights=weights) for weights in (counts, counts * gaps, counts * squares))

    squared, plugin = _estimates(*sums(np.ones(len(gaps), dtype=np.int64)))
    errors = [_estimates(*sums(counts))[0] - plugin for counts in resamples(len(gaps), num_resamples, seed)]
    upper, lower = np.quantile(errors, [(1 + level) / 2, (1 - level) / 2])
    return {
        "debiased_ece": _root(squared),
        "squared": squared,
        "low": _root(squared - upper),
        "high": _root(squared - lower),
        "level": float(level),
        "num_resamples": int(num_resamples),
        "seed": int(seed),
        "num_bins": int(num_bins),
        "single_bins": int(single.sum()),
        "binning": "equal_width",
        "norm": "l2",
    }


def _estimates(
    counts: npt.NDArray[Any], sums: npt.NDArray[Any], sums_of_squares: npt.NDArray[Any]
) -> tuple[float, float]:
    """Return the debiased and the plug-in estimate of the squared error, from sums over the examples of each bin."""
    filled = counts > 0
    n, total, total_of_squares = counts[filled], sums[filled], sums_of_squares[filled]
    # n (g² - s²/n) = ((Σ d)² - Σ d²) / (n - 1): n times the mean product of two different examples of the bin.
    debiased = np.where(n > 1, (total**2 - total_of_squares) / np.maximum(n - 1, 1), 0.0)
    return float(debiased.sum() / n.sum()), float((total**2 / n).sum() / n.sum())


def _root(squared: float) -> float:
    return math.sqrt(min(max(squared, 0.0), 1.0))
