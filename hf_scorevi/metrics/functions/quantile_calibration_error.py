"""Whether forecast quantiles are reached as often as they say."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.forecasts import forecast_chunks
from hf_scorevi.metrics.inputs import as_array, check_num_bins

FIGURES = (
    Figure("quantile_calibration_error", "quantile calibration error", greater_is_better=False, is_binned=True),
    Figure("mean_absolute", "mean absolute calibration error", greater_is_better=False, is_binned=True),
)


def quantile_calibration_error(
    samples: npt.ArrayLike, targets: npt.ArrayLike, num_bins: int = 10, seed: int = 0
) -> dict[str, Any]:
    """Compute Σ_j (p_j - p̂_j)² over the levels p_j = 0, 1 / num_bins, …, 1; p̂_j is the share of PIT values up to p_j.

    The probability integral transform of a target is its rank among the M samples: of b samples below it and e equal
    to it, (b + u (e + 1)) / (M + 1) with u uniform on (0, 1]. If the target and the samples come from one distribution
    it is exactly uniform, for every M and with ties; without the random part few samples would look miscalibrated. A
    histogram that is high at both ends says that the predictive is too narrow, one high in the middle that it is too
    wide, a slope that it is shifted.

    Of N examples of a calibrated model the expectation is Σ_j p_j (1 - p_j) / N, 1.65 / N with ten bins, not zero.

    Args:
        samples: [examples, samples] of the predictive. Array, tensor or nested list.
        targets: [examples], the observed values.
        num_bins: of the histogram; the levels are their edges. At least 1.
        seed: of the ranks among ties.

    Returns:
        `{"quantile_calibration_error": float, "mean_absolute": float, "levels": list, "observed": list,
        "pit_histogram": list, "num_bins": int, "num_samples": int, "seed": int, "weights": "equal",
        "pit": "randomised_rank"}`, where observed has the p̂_j, mean_absolute is the mean of |p_j - p̂_j| over levels,
        and pit_histogram counts the PIT values of each bin (closed on the right).

    Raises:
        ValueError: wrong shapes, empty input, NaN or infinity, num_bins < 1.

    Source: Kuleshov, Fenner and Ermon, "Accurate Uncertainties for Deep Learning Using Calibrated Regression", ICML
    2018 (arXiv 1807.00263) with weights of one; Czado, Gneiting and Held, Biometrics 2009, for the
    randomised PIT.
    """
    check_num_bins(num_bins)
    uniform = 1.0 - np.random.default_rng(seed).random(as_array(targets, "targets").size)  # on (0, 1]
    pit = np.empty_like(uniform)
    num_samples = 0
    for rows, values, observed in forecast_chunks(samples, targets, "samples", ("examples", "samples")):
        num_samples = values.shape[1]
        below = (values < observed[:, None]).sum(axis=1)
        ties = (values == observed[:, None]).sum(axis=1)
        pit[rows] = (below + uniform[rows] * (ties + 1)) / (num_samples + 1)
    levels = np.arange(num_bins + 1) / num_bins
    counts = np.searchsorted(np.sort(pit), levels, side="right")
    observed_shares = counts / len(pit)
    gaps = observed_shares - levels
    return {
        "quantile_calibration_error": float(np.square(gaps).sum()),
        "mean_absolute": float(np.abs(gaps).mean()),
        "levels": levels.tolist(),
        "observed": observed_shares.tolist(),
        "pit_histogram": np.diff(counts).tolist(),
        "num_bins": int(num_bins),
        "num_samples": num_samples,
        "seed": int(seed),
        "weights": "equal",
        "pit": "randomised_rank",
    }
