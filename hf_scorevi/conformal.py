"""Conformal prediction: sets of classes that hold the right one as often as promised, whatever the model is like."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.chunks import row_chunks
from hf_scorevi.metrics.inputs import as_array, check_probabilities
from hf_scorevi.metrics.intervals import wilson_interval

__all__ = ["METHODS", "ConformalPredictor", "evaluate_sets", "fit_conformal"]

METHODS = ("lac", "aps")


@dataclass(frozen=True)
class ConformalPredictor:
    """A threshold that turns predictive probabilities into sets of classes. `fit_conformal` makes it.

    Attributes:
        method: "lac" or "aps".
        coverage: the promised share of sets that hold the right class, in (0, 1).
        threshold: a class is in the set if its score is no larger; in [0, 1] up to rounding.
        num_examples: of the calibration.
        num_classes: of the model.
    """

    method: str
    coverage: float
    threshold: float
    num_examples: int
    num_classes: int

    def predict_sets(
        self, probabilities: npt.ArrayLike, seed: int | np.random.Generator | None = None
    ) -> npt.NDArray[np.bool_]:
        """Which classes are in each example's set, [examples, classes].

        Args:
            probabilities: [examples, classes], of the model that was calibrated; rows sum to one. Array or tensor.
            seed: of the "aps" method's randomisation; default: fresh numbers. The same for several calls would give
                them the same numbers: for sets that can be repeated, pass on one `numpy.random.Generator`.

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
        """The attributes as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "ConformalPredictor":
        """The inverse of `to_dict`, for JSON of any origin.

        Raises:
            ValueError: `values` is not what `to_dict` gives for some calibration.
        """
        keys = ("method", "coverage", "threshold", "num_examples", "num_classes")
        if not isinstance(values, dict) or set(values) != set(keys):
            raise ValueError(f"a conformal predictor must be an object with exactly the keys {', '.join(keys)}")
        # No message repeats a value: it may be as long as its author liked.
        if not isinstance(values["method"], str) or values["method"] not in METHODS:
            raise ValueError(f"method of a conformal predictor must be one of {', '.join(METHODS)}")
        for key, least in (("num_examples", 1), ("num_classes", 2)):
            if not _is_number(values[key], int) or not least <= values[key] < 2**53:
                raise ValueError(f"{key} of a conformal predictor must be a whole number of at least {least}")
        if not _is_number(values["coverage"], float) or not 0 < values["coverage"] < 1:
            raise ValueError("coverage of a conformal predictor must be a number between 0 and 1")
        _rank(values["num_examples"], values["coverage"])
        # Rows sum to one up to rounding, and so do the scores lie in [0, 1].
        if not _is_number(values["threshold"], float) or not -0.01 <= values["threshold"] <= 1.01:
            raise ValueError("threshold of a conformal predictor must be a number from 0 to 1")
        return cls(**values)


def fit_conformal(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, coverage: float = 0.9, method: str = "lac", seed: int = 0
) -> ConformalPredictor:
    """Calibrate prediction sets on examples that the model was not trained on (split conformal prediction).

    For new examples that are exchangeable with those given (drawn from the same distribution) a set holds the right
    class with at least the probability `coverage`, on average over examples and calibrations. With n of them and
    k = ⌈(n + 1) coverage⌉ it is k / (n + 1) where scores have no ties; that of one calibration is distributed as
    Beta(k, n + 1 - k). Sets may be empty, where no class looks like what the calibration has seen of right ones.

    "lac" puts classes of at least a certain probability into the set. No method has smaller sets on average, but hard
    examples may be covered much less often than easy ones. "aps" takes classes from the most probable down to a
    certain sum, at random with or without the last: sets are larger, and vary more with the difficulty.

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
    if not _is_number(coverage, float) or not 0 < coverage < 1:
        raise ValueError(f"coverage must be between 0 and 1, not {coverage!r}: 0.9 for nine sets in ten")
    table, targets = check_probabilities(probabilities, labels)
    rank = _rank(len(table), coverage)
    # Another stream than that of the same seed in predict_sets, whose numbers must not be these.
    uniforms = np.random.default_rng([1, seed]).random(len(table))
    scores = np.empty(len(table))
    for rows in row_chunks(*table.shape):
        every = _scores(table[rows], method, uniforms[rows])
        scores[rows] = np.take_along_axis(every, targets[rows, None], axis=1)[:, 0]
    threshold = float(np.partition(scores, rank - 1)[rank - 1])
    return ConformalPredictor(method, float(coverage), threshold, *table.shape)


def evaluate_sets(sets: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float | int]:
    """What prediction sets are worth on labelled examples, which must not be those of the calibration.

    Args:
        sets: [examples, classes], booleans: whether a class is in the set.
        labels: [examples], integer class indices.

    Returns:
        `{"coverage": float, "coverage_low": float, "coverage_high": float, "mean_size": float, "empty": float,
        "singletons": float, "num_examples": int}`: the share of sets that hold their label with its 95 % Wilson
        interval, classes a set, and the shares of sets with no and with one class.

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
    """Which of the sorted scores is the threshold, from 1: the finite-sample quantile."""
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
    """How far each class [examples, classes] is from being a sure prediction; `uniforms` [examples] are for "aps"."""
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


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
