"""Intervals of probabilities from observed shares."""

import numpy as np
import numpy.typing as npt


def wilson_interval(
    rates: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the 95 % intervals of binomial probabilities, two bounds [bins], from rates [bins] and counts [bins] > 0.

    It stays in [0, 1] and keeps its width where the rate is 0 or 1, unlike rate ± 1.96 standard errors.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    z = 1.959964
    scale = 1.0 / (1.0 + z**2 / counts)
    center = scale * (rates + z**2 / (2 * counts))
    half = scale * z * np.sqrt(rates * (1 - rates) / counts + z**2 / (4 * counts**2))
    return center - half, center + half
