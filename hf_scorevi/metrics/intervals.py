"""How far a share that was counted may lie from the probability behind it."""

import numpy as np
import numpy.typing as npt


def wilson_interval(
    rates: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The 95 % interval of a binomial probability: two bounds [bins] from rates [bins] and positive counts [bins].

    It stays in [0, 1] and keeps its width where the rate is 0 or 1, unlike rate ± 1.96 standard errors.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
    """
    z = 1.959964
    scale = 1.0 / (1.0 + z**2 / counts)
    center = scale * (rates + z**2 / (2 * counts))
    half = scale * z * np.sqrt(rates * (1 - rates) / counts + z**2 / (4 * counts**2))
    return center - half, center + half
