"""Pinball losses of forecast quantiles, relative to the size of the targets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.forecasts import check_levels, forecast_chunks

FIGURES = (
    Figure("weighted_quantile_loss", "weighted quantile loss", greater_is_better=False),
    Figure("by_level", "quantile loss by level", greater_is_better=False),
    Figure("mean_pinball", "pinball loss", greater_is_better=False, unit="target"),
)

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def weighted_quantile_loss(
    quantiles: npt.ArrayLike, targets: npt.ArrayLike, levels: Sequence[float] = DECILES
) -> dict[str, Any]:
    """Compute the mean over levels q of 2 Σ ρ_q(y - f_q) / Σ |y|, the sums over examples; lower is better.

    ρ_q(e) = max(q e, (q - 1) e) is the pinball loss, whose mean is smallest at the true q-quantile. The factor 2 and
    the denominator are GluonTS's convention, where the mean is called `mean_wQuantileLoss`; at the level 0.5 it is Σ
    |y - f| / Σ |y|. Papers often report this mean as CRPS, of which twice the mean pinball loss is an approximation.
    The denominator has no meaning on standardised data: pass quantiles and targets on the original scale.

    Args:
        quantiles: [examples, levels], the forecast quantiles. Array, tensor or nested list. They may cross.
        targets: [examples], the observed values, not all zero.
        levels: of the columns, between 0 and 1; by default the deciles.

    Returns:
        `{"weighted_quantile_loss": float, "by_level": list, "levels": list, "mean_pinball": float,
        "convention": "gluonts"}`, where mean_pinball is the mean over examples and levels of ρ, without factor and
        denominator.

    Raises:
        ValueError: wrong shapes, empty input, NaN or infinity, levels outside (0, 1) or not one for each column,
            targets that are all zero.

    Source: Koenker and Bassett, "Regression Quantiles", Econometrica 1978; Alexandrov et al., "GluonTS", JMLR 2020
    (arXiv 1906.05264).
    """
    checked = check_levels(levels)
    losses = np.zeros_like(checked)
    size = 0.0
    num_examples = 0
    for _, values, observed in forecast_chunks(quantiles, targets, "quantiles", ("examples", "levels")):
        if values.shape[1] != len(checked):
            raise ValueError(f"quantiles has {values.shape[1]} columns but there are {len(checked)} levels: name all")
        num_examples += len(values)
        errors = np.subtract(observed[:, None], values, out=values)
        losses += np.maximum(checked * errors, (checked - 1.0) * errors).sum(axis=0)
        size += float(np.abs(observed).sum())
    if size == 0.0:
        raise ValueError("targets are all zero, so that there is nothing to divide by: use crps instead")
    by_level = 2.0 * losses / size
    return {
        "weighted_quantile_loss": float(by_level.mean()),
        "by_level": by_level.tolist(),
        "levels": checked.tolist(),
        "mean_pinball": float(losses.mean()) / num_examples,
        "convention": "gluonts",
    }
