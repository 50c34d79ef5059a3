"""Checks of inputs that the classification metrics share. Nothing is repaired silently: bad input is an error."""

from typing import Any

import numpy as np
import numpy.typing as npt

# Loose enough for float16 (relative rounding 5e-4 an entry), tight enough to notice logits and unnormalised averages.
SUM_TOLERANCE = 1e-3


def as_array(values: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    """Return `values` as a numpy array of their own dtype, without a copy if possible.

    Tensors are recognised by their methods, so that the metrics don't depend on torch.
    """
    tensor: Any = values
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":  # the one common dtype that numpy doesn't have
            tensor = tensor.float()
        tensor = tensor.numpy()
    try:
        return np.asarray(tensor)
    except ValueError as error:
        raise ValueError(f"{name} is not a regular array ({error}): give every row the same length") from error


def check_probabilities(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Check probabilities [examples, classes], and return them in their own dtype with labels [examples] as int64."""
    array = check_predictions(probabilities)
    return array, check_labels(labels, *array.shape)


def check_predictions(probabilities: npt.ArrayLike, name: str = "probabilities") -> npt.NDArray[Any]:
    """Check probabilities [examples, classes], and return them in their own dtype."""
    array = _check_table(probabilities, name)
    check_distributions(
        array,
        name,
        "apply softmax to logits first",
        "apply softmax, in float32 or better, and average probabilities, not logits",
    )
    return array


def check_label_distributions(label_distributions: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Check label distributions [examples, classes], and return them in their own dtype."""
    array = as_array(label_distributions, "label_distributions")
    if array.shape != shape:
        raise ValueError(
            f"label_distributions must have the shape {list(shape)} of the predictions, not {list(array.shape)}: "
            "give for each example the share of annotators that chose each class"
        )
    refuse_not_real(array, "label_distributions")
    remedy = "divide each example's counts by their sum"
    check_distributions(array, "label_distributions", remedy, remedy)
    return array


def check_distributions(
    array: npt.NDArray[Any], name: str, if_negative: str, if_unnormalised: str, first_row: int = 0
) -> None:
    """Raise a ValueError with the remedy unless the rows of `array` [rows, classes] are distributions."""
    with np.errstate(invalid="ignore", over="ignore"):
        sums = array.sum(axis=1, dtype=np.float64)  # summed through a small buffer: no float64 copy of the array
    # A NaN or an infinity anywhere in a row shows in its sum.
    overflowed = ~np.isfinite(sums)
    _refuse_rows(overflowed, name, "holds NaN or infinity: the model's outputs overflowed", first_row=first_row)
    if array.min() < 0:
        negative = array.min(axis=1) < 0
        _refuse_rows(negative, name, f"holds a negative value: {if_negative}", first_row=first_row)
    check_row_sums(sums, name, if_unnormalised, first_row)


def check_log_probabilities(
    log_probabilities: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Check logarithms like `check_probabilities`, where -inf is a probability of zero; row sums are not checked."""
    array = _check_table(log_probabilities, "log_probabilities")
    largest = array.max(axis=1)  # NaN where the row holds one
    _refuse_rows(
        np.isnan(largest) | (largest == np.inf),
        "log_probabilities",
        "holds NaN or +infinity: the model's outputs overflowed",
    )
    return array, check_labels(labels, *array.shape)


def check_row_sums(sums: npt.NDArray[np.float64], name: str, remedy: str, first_row: int = 0) -> None:
    """Raise a ValueError for the first of `sums` [rows] that is not one."""
    _refuse_rows(np.abs(sums - 1.0) > SUM_TOLERANCE, name, f"does not sum to one: {remedy}", sums, first_row)


def check_labels(labels: npt.ArrayLike, num_examples: int, num_classes: int) -> npt.NDArray[np.int64]:
    """Check labels [examples], and return them as int64."""
    array = as_array(labels, "labels")
    if array.shape != (num_examples,):
        raise ValueError(
            f"labels must have the shape [{num_examples}], one for each row of predictions, not {list(array.shape)}: "
            "give class indices, not one-hot rows"
        )
    if array.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, not {array.dtype}: convert class indices with .astype(int)")
    outside = (array < 0) | (array >= num_classes)
    if outside.any():
        index = int(outside.argmax())
        raise ValueError(
            f"labels[{index}] is {array[index]}, outside the {num_classes} classes 0 to {num_classes - 1}: "
            "leave out ignored examples (label -100) and check the model's id2label"
        )
    return array.astype(np.int64, copy=False)


def check_scores(scores: npt.ArrayLike, num_examples: int | None = None) -> npt.NDArray[np.float64]:
    """Check scores [examples], which may be infinite, and return them as float64."""
    array = as_array(scores, "scores")
    if num_examples is not None and array.shape != (num_examples,):
        raise ValueError(
            f"scores must have the shape [{num_examples}], one for each row of predictions, not {list(array.shape)}"
        )
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"scores must have the shape [examples], at least one, not {list(array.shape)}")
    refuse_not_real(array, "scores")
    missing = np.isnan(array)
    if missing.any():
        raise ValueError(f"scores[{int(missing.argmax())}] is NaN: the model's outputs overflowed")
    return array.astype(np.float64, copy=False)


def check_num_bins(num_bins: int) -> None:
    """Raise a ValueError unless `num_bins` is a positive integer."""
    check_positive("num_bins", num_bins, "15 is the usual choice")


def check_positive(name: str, value: int, remedy: str) -> None:
    """Raise a ValueError unless `value` is a positive integer."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, not {value!r}: {remedy}")


def refuse_not_real(array: npt.NDArray[Any], name: str) -> None:
    """Raise a ValueError unless `array` holds real numbers."""
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be real numbers, not {array.dtype}: convert with .astype(float)")


def _check_table(values: npt.ArrayLike, name: str) -> npt.NDArray[Any]:
    array = as_array(values, name)
    if array.ndim != 2 or array.shape[1] == 1:
        raise ValueError(
            f"{name} must have the shape [examples, classes] with at least two classes, not {list(array.shape)}: "
            "for a binary model give both columns, [1 - p, p]"
        )
    if array.size == 0:
        raise ValueError(f"{name} is empty, its shape is {list(array.shape)}: give at least one example")
    refuse_not_real(array, name)
    return array


def _refuse_rows(
    bad: npt.NDArray[np.bool_],
    name: str,
    complaint: str,
    values: npt.NDArray[np.float64] | None = None,
    first_row: int = 0,
) -> None:
    if bad.any():
        index = int(bad.argmax())
        value = "" if values is None else f" (sum {values[index]:.6g})"
        raise ValueError(f"row {first_row + index} of {name}{value} {complaint}")
