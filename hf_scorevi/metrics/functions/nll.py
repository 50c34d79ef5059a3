"""Negative log-likelihood of the labels: a strictly proper score, and the one that punishes confident errors most."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.chunks import row_chunks
from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.inputs import check_log_probabilities, check_probabilities, check_row_sums

FIGURES = (Figure("nll", "NLL", greater_is_better=False, unit="nats"),)


def nll(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, Any]:
    """Compute the mean of -log p(label), in nats per example, in [0, inf].

    A label of probability exactly zero makes the result infinite: nothing is clipped. Where float32 rounds small
    probabilities to zero, `nll_from_log_probabilities` keeps them.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.

    Returns:
        `{"nll": float, "unit": "nats"}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range.

    Source: Good, "Rational Decisions", J. R. Stat. Soc. B 14 (1952).
    """
    checked, targets = check_probabilities(probabilities, labels)
    of_labels = checked[np.arange(len(targets)), targets].astype(np.float64)
    with np.errstate(divide="ignore"):  # log 0 = -inf is the answer, not an accident
        return _mean_nll(np.log(of_labels))


def nll_from_log_probabilities(log_probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, Any]:
    """Compute `nll` from log-probabilities, which do not round small probabilities to zero.

    Args:
        log_probabilities: [examples, classes], natural logarithms such as those of `log_softmax`: the exponentials of
            a row sum to one. -inf stands for a probability of zero. Array, tensor or nested list.
        labels: [examples], integer class indices.

    Returns:
        `{"nll": float, "unit": "nats"}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no log-probabilities, labels out of range.
    """
    checked, targets = check_log_probabilities(log_probabilities, labels)
    for rows in row_chunks(*checked.shape):
        with np.errstate(over="ignore"):  # of large logits; an infinite sum is refused below like any other
            sums = np.exp(checked[rows].astype(np.float64)).sum(axis=1)
        check_row_sums(sums, "exp(log_probabilities)", "apply log_softmax to logits first", first_row=rows.start)
    return _mean_nll(checked[np.arange(len(targets)), targets].astype(np.float64))


def _mean_nll(log_likelihoods: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {"nll": float(0.0 - log_likelihoods.mean()), "unit": "nats"}  # 0 - x, because -0.0 would be printed as such
