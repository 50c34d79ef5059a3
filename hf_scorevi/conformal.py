"""Conformal prediction: sets of classes that hold the right one as often as promised, whatever the model is like."""

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.json_values import is_number, json_number, json_object, json_whole, short
from hf_scorevi.metrics.chunks import row_chunks
from hf_scorevi.metrics.inputs import as_array, check_probabilities
from hf_scorevi.metrics.intervals import wilson_interval

__all__ = ["METHODS", "ConformalPredictor", "evaluate_sets", "fit_conformal"]

METHODS = ("lac", "aps")


@dataclass(frozen=True)
class ConformalPredictor:
    """A threshold that turns predictive probabilities into sets of classes, fitted by `fit_conformal`.

    Attributes:
        method: "lac" or "aps".
        coverage: the promised share of sets that hold the right class, in (0, 1).
        threshold: largest score of a class in the set; in [0, 1] up to rounding.
        num_examples: number of examples of the calibration.
        num_classes: number of classes of the model.
    """

    method: str
    coverage: float
    threshold: float
    num_examples: int
    num_classes: int

    def predict_sets(
        self, probabilities: npt.ArrayLike, seed: int | np.random.Generator | None = None
    ) -> npt.NDArray[np.bool_]:
        """Return which classes are in each example's set, [examples, classes].

        Args:
            probabilities: [examples, classes], of the model that was calibrated; rows sum to one. Array or tensor.
            seed: of the "aps" method's randomisation; default: fresh numbers. Calls with the same seed use the same
                numbers: for sets that can be repeated, use one `numpy.random.Generator` for all calls.

        Raises:
            ValueError: values that are no probabilities, or of another number of classes.
        """
        table = as_array(probabilities, "probabilities")
        table, _ = check_probabilities(table, np.zeros(table.shape[:1], dtype=np.int64))
        if table.shape[1] != self.num_classes:
            raise ValueError(
                f"probabilities are of {table.shape[1]} classes, the calibration of {self.num_classes}: "
                "fit_conformal must see the same model"
            )
        uniforms = np.random.default_rng(seed).random(len(table))
        sets = np.empty(table.shape, dtype=np.bool_)
        for rows in row_chunks(*table.shape):
            sets[rows] = _scores(table[rows], self.method, uniforms[rows]) <= self.threshold
        return sets

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "ConformalPredictor":
        """Build a predictor from the result of `to_dict`, or from JSON of any origin.

        Raises:
            ValueError: `values` cannot be the result of `to_dict`.
        """
        keys = [field.name for field in fields(cls)]
        values = json_object("a conformal predictor", values, keys)
        if unknown := [key for key in values if key not in keys]:
            raise ValueError(f"a conformal predictor has the keys {', '.join(keys)}, and not {short(unknown[0], 60)}")
        of, method = "of a conformal predictor", values["method"]
        if method not in METHODS:
            raise ValueError(f"method {of} must be one of {', '.join(METHODS)}, not {short(method, 60)}")
        if not (is_number(values["coverage"]) and 0 < values["coverage"] < 1):
            raise ValueError(
                f"coverage {of} must lie between 0 and 1, both excluded, not {short(values['coverage'], 60)}"
            )
        found = cls(
            method=method,
            coverage=values["coverage"],
            # Rows sum to one up to rounding, so that scores may lie a little outside of [0, 1].
            threshold=json_number(f"threshold {of}", values["threshold"], -0.01, 1.01),
            num_examples=json_whole(f"num_examples {of}", values["num_examples"], 1, 2**53 - 1),
            num_classes=json_whole(f"num_classes {of}", values["num_classes"], 2, 2**53 - 1),
        )
        _rank(found.num_examples, found.coverage)
        return found


def fit_conformal(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, coverage: float = 0.9, method: str = "lac", seed: int = 0
) -> ConformalPredictor:
    """Calibrate prediction sets on examples that the model was not trained on (split conformal prediction).

    For new examples that are exchangeable with those given (drawn from the same distribution) a set holds the right
    class with at least the probability `coverage`, on average over examples and calibrations. With n examples and
    k = ⌈(n + 1) coverage⌉ this probability is k / (n + 1) if scores have no ties; for one calibration it is
    distributed as Beta(k, n + 1 - k). A set may be empty, if no class has a score as low as the threshold.

    "lac" puts classes of at least a certain probability into the set. No method has smaller sets on average, but hard
    examples may be covered much less often than easy ones. "aps" adds classes from the most probable down until their
    probabilities reach a certain sum, at random with or without the last: sets are larger, and vary more with the
    difficulty.

    Args:
        probabilities: [examples, classes], rows sum to one: of the posterior predictive or any other. Array or tensor.
        labels: [examples], integer class indices.
        coverage: in (0, 1).
        method: "lac" or "aps".
        seed: of the "aps" method's randomisation.

    Raises:
        ValueError: an unknown method, a coverage outside (0, 1), too few examples for it, values that are no
            probabilities, labels out of range.

    Source: "lac" Sadinle, Lei and Wasserman, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", JASA
        114 (2019); "aps" Romano, Sesia and Candès, "Classification with Valid and Adaptive Coverage", NeurIPS 2020
        (arXiv 2006.02544), section 2; the distribution of the coverage Vovk, "Conditional Validity of Inductive
        Conformal Predictors", ACML 2012.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if not is_number(coverage) or not 0 < coverage < 1:
        raise ValueError(f"coverage must be between 0 and 1, not {coverage!r}: 0.9 for nine sets in ten")
    table, targets = check_probabilities(probabilities, labels)
    rank = _rank(len(table), coverage)
    # [1, seed]: predict_sets with the same seed must not draw the same numbers.
    uniforms = np.random.default_rng([1, seed]).random(len(table))
    scores = np.empty(len(table))
    for rows in row_chunks(*table.shape):
        every = _scores(table[rows], method, uniforms[rows])
        scores[rows] = np.take_along_axis(every, targets[rows, None], axis=1)[:, 0]
    threshold = float(np.partition(scores, rank - 1)[rank - 1])
    return ConformalPredictor(method, float(coverage), threshold, *table.shape)


def evaluate_sets(sets: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float | int]:
    """Measure prediction sets on labelled examples, which must not be those of the calibration.

    Args:
        sets: [examples, classes], booleans: whether a class is in the set.
        labels: [examples], integer class indices.

    Returns:
        `{"coverage": float, "coverage_low": float, "coverage_high": float, "mean_size": float, "empty": float,
        "singletons": float, "num_examples": int}`: the share of sets that hold their label with its 95 % Wilson
        interval, the mean number of classes in a set, and the shares of sets with no and with one class.

    Raises:
        ValueError: sets that are no such booleans, wrong shapes, labels out of range.
    """
    members = as_array(sets, "sets")
    if members.ndim != 2 or members.size == 0 or members.dtype.kind != "b":
        raise ValueError(
            f"sets must be booleans of the shape [examples, classes], not {members.dtype} of the shape "
            f"{list(members.shape)}"
        )
    targets = as_array(labels, "labels")
    if targets.shape != members.shape[:1] or targets.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of the shape [{len(members)}], one a set, not {targets.dtype} of the shape "
            f"{list(targets.shape)}"
        )
    if targets.min() < 0 or targets.max() >= members.shape[1]:
        raise ValueError(
            f"labels are {targets.min()} to {targets.max()}, outside the classes 0 to {members.shape[1] - 1}"
        )
    sizes = members.sum(axis=1)
    covered = members[np.arange(len(members)), targets].mean()
    low, high = wilson_interval(np.array([covered]), np.array([len(members)]))
    return {
        "coverage": float(covered),
        "coverage_low": float(low[0]),
        "coverage_high": float(high[0]),
        "mean_size": float(sizes.mean()),
        "empty": float((sizes == 0).mean()),
        "singletons": float((sizes == 1).mean()),
        "num_examples": len(members),
    }


def _rank(num_examples: int, coverage: float) -> int:
    """Return the rank of the threshold among the sorted scores, from 1: the finite-sample quantile."""
    rank = int(np.ceil((num_examples + 1) * coverage - 1e-9))  # 0.07 · 100 is 7.000000000000001
    if rank > num_examples:
        needed = int(np.ceil(coverage / (1 - coverage) - 1e-9))
        raise ValueError(
            f"a coverage of {coverage:g} needs at least {needed} examples, and there are {num_examples}: calibrate on "
            "more, or promise less"
        )
    return rank


def _scores(
    probabilities: npt.NDArray[Any], method: str, uniforms: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return how far each class [examples, classes] is from a sure prediction; `uniforms` [examples] are for "aps"."""
    table = probabilities.astype(np.float64)
    if method == "lac":
        return 1.0 - table
    # The sum of what is more probable, and a random part of the class's own (equation 5, with 1 - u for u).
    order = np.argsort(-table, axis=1, kind="stable")
    descending = np.take_along_axis(table, order, axis=1)
    sums = descending.cumsum(axis=1) - descending * uniforms[:, None]
    scores = np.empty_like(sums)
    np.put_along_axis(scores, order, sums, axis=1)
    return scores
