"""Predictions sorted into bins of confidence, for reliability diagrams and `ece`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.json_values import json_list, json_number, json_object, json_whole, short
from hf_scorevi.metrics.chunks import top_label
from hf_scorevi.metrics.inputs import SUM_TOLERANCE, as_array, check_num_bins, check_probabilities, refuse_not_real

MAX_STORED_BINS = 10_000
_KEYS = ("edges", "counts", "mean_confidence", "accuracy")


@dataclass(frozen=True)
class ReliabilityBins:
    """Bins of equal width on [0, 1], closed on the right: bin i holds edges[i] < confidence <= edges[i + 1].

    A confidence of zero belongs to the first bin.

    Attributes:
        edges: [bins + 1].
        counts: [bins], examples in each bin.
        mean_confidence: [bins], NaN where a bin is empty.
        accuracy: [bins], share of right predictions, NaN where a bin is empty.
    """

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    mean_confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Mean over examples of |accuracy - mean confidence| of the example's bin, in [0, 1]."""
        gaps = np.abs(self.accuracy - self.mean_confidence)
        # Empty bins have no gap (NaN) and no weight.
        return float(np.nansum(self.counts * gaps) / self.counts.sum())

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the attributes as lists of JSON values, None where a bin is empty."""
        return {
            "edges": self.edges.tolist(),
            "counts": self.counts.tolist(),
            "mean_confidence": _none_for_nan(self.mean_confidence),
            "accuracy": _none_for_nan(self.accuracy),
        }

    @classmethod
    def from_dict(cls, values: Any) -> "ReliabilityBins":
        """Build bins from the result of `to_dict`, or from JSON of any origin.

        Raises:
            ValueError: `values` cannot be the result of `to_dict`, or has more than 10,000 bins.
        """
        values = json_object("reliability bins", values, _KEYS)
        if unknown := [key for key in values if key not in _KEYS]:
            raise ValueError(f"reliability bins have the keys {', '.join(_KEYS)}, and not {short(unknown[0], 60)}")
        counts = _stored_counts(values["counts"])
        return cls(
            edges=np.array(_stored_edges(values["edges"], len(counts)), dtype=np.float64),
            counts=np.array(counts, dtype=np.int64),
            # Rows may sum to a little more than one, and so may a mean confidence be more than one.
            mean_confidence=_stored_means("mean_confidence", values["mean_confidence"], counts, 1.0 + SUM_TOLERANCE),
            accuracy=_stored_means("accuracy", values["accuracy"], counts, 1.0),
        )


def reliability_bins(probabilities: npt.ArrayLike, labels: npt.ArrayLike, num_bins: int = 15) -> ReliabilityBins:
    """Bin examples by their confidence, the probability of the most probable class.

    Among equally probable classes the one of lowest index is the prediction, as with `argmax`.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.
        num_bins: number of bins, at least 1.

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, num_bins < 1.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (arXiv 1706.04599), section 2.
    """
    check_num_bins(num_bins)
    checked, targets = check_probabilities(probabilities, labels)
    confidences, predictions = top_label(checked)
    return bin_confidences(confidences, predictions == targets, num_bins)


def bin_confidences(confidences: npt.ArrayLike, correct: npt.ArrayLike, num_bins: int = 15) -> ReliabilityBins:
    """Bin examples like `reliability_bins`, from their confidences.

    Args:
        confidences: [examples], in [0, 1] up to rounding. Array, tensor or list.
        correct: [examples], booleans: whether the prediction is the label.
        num_bins: number of bins, at least 1.

    Raises:
        ValueError: wrong shapes or types, empty input, confidences outside [0, 1], num_bins < 1.
    """
    check_num_bins(num_bins)
    values, hits = check_confidences(confidences, correct)
    bins = bin_numbers(values, num_bins)
    counts = np.bincount(bins, minlength=num_bins)
    filled = np.where(counts > 0, counts, np.nan)
    return ReliabilityBins(
        edges=bin_edges(num_bins),
        counts=counts,
        mean_confidence=np.bincount(bins, weights=values, minlength=num_bins) / filled,
        accuracy=np.bincount(bins, weights=hits, minlength=num_bins) / filled,
    )


def bin_edges(num_bins: int) -> npt.NDArray[np.float64]:
    """Return the edges [bins + 1] of bins of equal width on [0, 1]."""
    return np.linspace(0.0, 1.0, num_bins + 1)


def bin_numbers(values: npt.NDArray[Any], num_bins: int) -> npt.NDArray[np.int64]:
    """Return the bin of each of `values`, in their shape: i for edges[i] < value <= edges[i + 1]."""
    # Compared in float32, so that 0.6 falls into the same bin whether it arrives as float32 or float64. Without the
    # outer edges, what lies at or beyond them (1.0000001, by rounding) goes to the first or the last bin.
    inner = bin_edges(num_bins)[1:-1].astype(np.float32)
    return np.searchsorted(inner, values.astype(np.float32, copy=False), side="left")


def check_confidences(
    confidences: npt.ArrayLike, correct: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Check confidences [examples] and correct [examples], and return them as float64 and as booleans."""
    values = as_array(confidences, "confidences")
    hits = as_array(correct, "correct")
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"confidences must have the shape [examples], at least one, not {list(values.shape)}")
    refuse_not_real(values, "confidences")
    if hits.shape != values.shape or hits.dtype.kind != "b":
        raise ValueError(
            f"correct must be booleans of the shape {list(values.shape)}, one for each confidence, "
            f"not {hits.dtype} of the shape {list(hits.shape)}: give predictions == labels"
        )
    values = values.astype(np.float64, copy=False)
    outside = ~((values >= 0.0) & (values <= 1.0 + SUM_TOLERANCE))  # NaN too
    if outside.any():
        index = int(outside.argmax())
        raise ValueError(f"confidences[{index}] is {values[index]:g}, not in [0, 1]: give probabilities, not logits")
    return values, hits


def _none_for_nan(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]


def _stored_counts(values: Any) -> list[int]:
    counts = [
        json_whole(f"counts[{i}] of reliability bins", value)
        for i, value in enumerate(json_list("counts of reliability bins", values, 1, MAX_STORED_BINS))
    ]
    if not 1 <= sum(counts) <= 2**53:  # beyond that, float64 does not hold it
        raise ValueError(f"counts of reliability bins must sum to 1 to 2^53 examples, not {sum(counts)}")
    return counts


def _stored_edges(values: Any, num_bins: int) -> list[float]:
    edges = [
        json_number(f"edges[{i}] of reliability bins", value, 0.0, 1.0)
        for i, value in enumerate(json_list("edges of reliability bins", values, num_bins + 1, num_bins + 1))
    ]
    if edges[0] != 0.0 or edges[-1] != 1.0:
        raise ValueError(f"edges of reliability bins must go from 0 to 1, not from {edges[0]} to {edges[-1]}")
    for i in range(1, len(edges)):
        if edges[i - 1] >= edges[i]:
            raise ValueError(f"edges of reliability bins must increase, but edges[{i}] is {edges[i]}")
    return edges


def _stored_means(key: str, values: Any, counts: list[int], largest: float) -> npt.NDArray[np.float64]:
    means = np.full(len(counts), np.nan)
    for i, value in enumerate(json_list(f"{key} of reliability bins", values, len(counts), len(counts))):
        if (value is None) != (counts[i] == 0):
            raise ValueError(
                f"{key}[{i}] of reliability bins must be null exactly where the bin is empty, not {short(value, 60)}"
            )
        if value is not None:
            means[i] = json_number(f"{key}[{i}] of reliability bins", value, 0.0, largest)
    return means
