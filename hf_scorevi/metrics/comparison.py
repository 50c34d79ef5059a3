"""Whether one model is better than another, on the examples that both were measured on."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.bootstrap import check_bootstrap, resamples
from hf_scorevi.metrics.chunks import row_chunks, top_label
from hf_scorevi.metrics.inputs import check_labels, check_num_bins, check_predictions
from hf_scorevi.metrics.reliability import bin_numbers


def paired_bootstrap(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    labels: npt.ArrayLike,
    num_bins: int = 15,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Compare accuracy, NLL, ECE and Brier score of two models, with bootstrap intervals of the differences.

    Each resample draws as many examples as there are, with replacement, and uses the same ones for both models, so
    that examples that are hard for both add no noise to the difference. The interval holds the middle `level` of the
    differences over resamples (percentile bootstrap). It covers other test examples, not other training runs. That of
    the ECE is biased upwards, like the ECE, where bins hold few examples; `debiased_ece` has an interval without bias.

    An infinite NLL makes the difference, and bounds of its interval, infinite; where both models have one, in the data
    or in any resample, these are NaN.

    Args:
        first: [examples, classes], probabilities whose rows sum to one. Array, tensor or nested list.
        second: the same of the other model, with the same examples and classes in the same order.
        labels: [examples], integer class indices.
        num_bins: number of bins of the ECE (top-label, equal width), at least 1.
        num_resamples: number of resamples, at least 1.
        level: of the interval, between 0 and 1.
        seed: of the resamples.

    Returns:
        For each of "accuracy", "nll" (nats), "ece" and "brier" a dict of "first" and "second", the values;
        "difference", second - first; "low" and "high", its interval.

    Raises:
        ValueError: wrong or different shapes, empty input, values that are no probabilities, labels out of range,
            num_bins or num_resamples < 1, level outside (0, 1).

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), sections 8.3 and 13.3.
    """
    check_num_bins(num_bins)
    check_bootstrap(num_resamples, level)
    tables = check_predictions(first, "first"), check_predictions(second, "second")
    if tables[0].shape != tables[1].shape:
        raise ValueError(
            f"first and second must have one shape, not {list(tables[0].shape)} and {list(tables[1].shape)}: "
            "give the predictions of both models on the same examples"
        )
    targets = check_labels(labels, *tables[0].shape)
    models = [_Model(table, targets, num_bins) for table in tables]
    values = [model.values(np.ones(len(targets), dtype=np.int64)) for model in models]
    differences = [
        _subtract(*(model.values(counts) for model in models))
        for counts in resamples(len(targets), num_resamples, seed)
    ]
    # Order statistics without interpolation, which would make NaN of infinities.
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(differences, tails, axis=0, method="inverted_cdf")
    columns = zip(_Model.NAMES, *values, _subtract(*values), low, high, strict=True)
    keys = ("first", "second", "difference", "low", "high")
    return {name: dict(zip(keys, map(float, row), strict=True)) for name, *row in columns}


class _Model:
    """The contribution of each example to a model's metrics."""

    NAMES = ("accuracy", "nll", "ece", "brier")

    def __init__(self, probabilities: npt.NDArray[Any], labels: npt.NDArray[np.int64], num_bins: int) -> None:
        confidences, predictions = top_label(probabilities)
        self.correct = (predictions == labels).astype(np.float64)
        self.gaps = self.correct - confidences
        self.bins = bin_numbers(confidences, num_bins)
        of_labels = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        self.impossible = of_labels == 0.0  # their NLL is infinite, and infinity times a count of zero is NaN
        self.nll = -np.log(np.where(self.impossible, 1.0, of_labels))
        self.brier = np.concatenate(list(_brier_scores(probabilities, labels)))

    def values(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the metrics [4] of data in which each example occurs so many times."""
        num_examples = len(counts)
        nll = np.inf if (self.impossible & (counts > 0)).any() else counts @ self.nll
        gaps = np.bincount(self.bins, weights=counts * self.gaps)
        return np.array([counts @ self.correct, nll, np.abs(gaps).sum(), counts @ self.brier]) / num_examples


def _brier_scores(probabilities: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.float64]]:
    for rows in row_chunks(*probabilities.shape):
        errors = probabilities[rows].astype(np.float64)
        errors[np.arange(len(errors)), labels[rows]] -= 1.0
        yield np.square(errors, out=errors).sum(axis=1)


def _subtract(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinity less infinity is unknown
        return second - first
