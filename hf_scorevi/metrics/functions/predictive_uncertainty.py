"""How uncertain a Bayesian model is, and how much of that comes from not knowing its weights."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.chunks import row_chunks
from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.inputs import as_array, check_distributions, refuse_not_real

FIGURES = (
    Figure("entropy", "entropy", greater_is_better=None, unit="nats"),
    Figure("expected_entropy", "expected entropy", greater_is_better=None, unit="nats"),
    Figure("mutual_information", "mutual information", greater_is_better=None, unit="nats"),
)


def predictive_uncertainty(
    probabilities: npt.ArrayLike, quantiles: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)
) -> dict[str, Any]:
    """Compute mean and quantiles over examples of three entropies, in nats, without labels.

    - `entropy` of the predictive, the mean over draws: total uncertainty, in [0, log classes].
    - `expected_entropy`, the mean over draws of each draw's entropy: the uncertainty if the weights were known.
    - `mutual_information` of label and weights, the difference: the uncertainty that more data can remove, in
      [0, entropy].

    Over S draws the mutual information is at most log S, and is biased downwards while they are few.

    Args:
        probabilities: [examples, draws, classes], of each draw of the weights, at least two classes; the last axis
            sums to one. Array, tensor or nested list.
        quantiles: levels in [0, 1], at least one.

    Returns:
        `{"entropy": float, "expected_entropy": float, "mutual_information": float, "entropy_quantiles": list,
        "expected_entropy_quantiles": list, "mutual_information_quantiles": list, "quantiles": list, "num_draws": int,
        "unit": "nats"}`

    Raises:
        ValueError: wrong shape, empty input, values that are no probabilities, quantiles outside [0, 1].

    Source: Depeweg et al., "Decomposition of Uncertainty in Bayesian Deep Learning", ICML 2018 (arXiv 1710.07283);
    Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning" (arXiv 1112.5745).
    """
    levels = np.asarray(quantiles, dtype=np.float64)
    if levels.ndim != 1 or levels.size == 0 or not ((levels >= 0.0) & (levels <= 1.0)).all():
        raise ValueError(f"quantiles must be levels from 0 to 1, at least one, not {quantiles!r}")
    array = _check_draws(probabilities)
    num_examples, num_draws, num_classes = array.shape
    entropy, expected_entropy = np.empty((2, num_examples))
    for examples in row_chunks(num_examples, num_draws * num_classes):
        draws = array[examples].astype(np.float64)
        check_distributions(
            draws.reshape(-1, num_classes),
            f"probabilities, counted as examples × {num_draws} draws,",
            "apply softmax to logits first",
            "the last axis is that of the classes; apply softmax, in float32 or better",
            first_row=examples.start * num_draws,
        )
        entropy[examples] = _entropy(draws.mean(axis=1))
        expected_entropy[examples] = _entropy(draws).mean(axis=1)
    # The entropy is concave: a negative difference is rounding.
    parts = {
        "entropy": entropy,
        "expected_entropy": expected_entropy,
        "mutual_information": np.maximum(entropy - expected_entropy, 0.0),
    }
    return {
        **{name: float(values.mean()) for name, values in parts.items()},
        **{f"{name}_quantiles": np.quantile(values, levels).tolist() for name, values in parts.items()},
        "quantiles": levels.tolist(),
        "num_draws": num_draws,
        "unit": "nats",
    }


def _entropy(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the entropy over the last axis; 0 log 0 is 0."""
    logs = np.log(np.where(probabilities > 0.0, probabilities, 1.0))
    logs *= probabilities
    return 0.0 - logs.sum(axis=-1)


def _check_draws(probabilities: npt.ArrayLike) -> npt.NDArray[Any]:
    array = as_array(probabilities, "probabilities")
    if array.ndim != 3 or array.shape[2] == 1:
        raise ValueError(
            "probabilities must have the shape [examples, draws, classes] with at least two classes, "
            f"not {list(array.shape)}: give those of each draw, not their mean"
        )
    if array.size == 0:
        raise ValueError(f"probabilities is empty, its shape is {list(array.shape)}: give at least one example")
    refuse_not_real(array, "probabilities")
    return array
