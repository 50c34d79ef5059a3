import numpy as np
import pytest
import torch

from hf_scorevi.metrics import (
    accuracy,
    adaptive_ece,
    aurc,
    brier,
    classification_metrics,
    classwise_ece,
    debiased_ece,
    ece,
    mce,
    nll,
    pooled_ece,
    reliability_bins,
    risk_coverage_curve,
    soft_ece,
    soft_nll,
)
from hf_scorevi.metrics.inputs import as_array

BINNED = [
    adaptive_ece,
    brier,
    classification_metrics,
    classwise_ece,
    debiased_ece,
    ece,
    mce,
    pooled_ece,
    reliability_bins,
]
METRICS = [accuracy, aurc, nll, risk_coverage_curve, *BINNED]
SOFT = [soft_nll, soft_ece]
GOOD = [[0.2, 0.8], [0.5, 0.5]]

BAD_PROBABILITIES = {
    "one dimension": ([0.2, 0.8], "probabilities must have the shape .*both columns"),
    "three dimensions": ([GOOD, GOOD], "probabilities must have the shape"),
    "one column": ([[1.0], [1.0]], "at least two classes, not \\[2, 1\\]"),
    "ragged": ([[0.2, 0.8], [1.0]], "probabilities is not a regular array"),
    "no example": (np.empty((0, 3)), "probabilities is empty"),
    "no class": (np.empty((2, 0)), "probabilities is empty"),
    "text": ([["a", "b"], ["c", "d"]], "probabilities must be real numbers"),
    "complex": (np.array(GOOD, dtype=complex), "probabilities must be real numbers"),
    "NaN": ([[0.2, 0.8], [np.nan, 0.5]], "row 1 of probabilities holds NaN or infinity"),
    "infinity": ([[0.2, 0.8], [np.inf, 0.5]], "row 1 of probabilities holds NaN or infinity"),
    "infinities that cancel": ([[np.inf, -np.inf], [0.5, 0.5]], "row 0 of probabilities holds NaN or infinity"),
    "negative": ([[0.2, 0.8], [1.5, -0.5]], "row 1 of probabilities holds a negative value: apply softmax"),
    "logits": ([[0.2, 0.8], [3.0, 4.0]], "row 1 of probabilities \\(sum 7\\) does not sum to one: apply softmax"),
    "too little": ([[0.2, 0.797], [0.5, 0.5]], "row 0 of probabilities \\(sum 0.997\\)"),
}
BAD_LABELS = {
    "one-hot": ([[0, 1], [1, 0]], "labels must have the shape \\[2\\].*not one-hot"),
    "too few": ([0], "labels must have the shape \\[2\\]"),
    "a number": (0, "labels must have the shape \\[2\\]"),
    "float": ([0.0, 1.0], "labels must be integers, not float64"),
    "bool": ([False, True], "labels must be integers, not bool"),
    "ignored": ([0, -100], "labels\\[1\\] is -100, outside the 2 classes 0 to 1: leave out ignored"),
    "beyond": ([2, 0], "labels\\[0\\] is 2, outside the 2 classes 0 to 1"),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", BAD_PROBABILITIES)
def test_refuses_what_are_no_probabilities(metric, case):
    probabilities, message = BAD_PROBABILITIES[case]
    with pytest.raises(ValueError, match=message):
        metric(probabilities, [0, 1])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", BAD_LABELS)
def test_refuses_what_are_no_labels(metric, case):
    labels, message = BAD_LABELS[case]
    with pytest.raises(ValueError, match=message):
        metric(GOOD, labels)


@pytest.mark.parametrize("metric", BINNED)
@pytest.mark.parametrize("num_bins", [0, -1, 1.5, 15.0, True, "15", None])
def test_refuses_numbers_of_bins(metric, num_bins):
    with pytest.raises(ValueError, match="num_bins must be an integer of at least 1"):
        metric(GOOD, [0, 1], num_bins)


def test_sums_may_be_off_by_a_rounding_error_of_half_precision():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(1000), size=50).astype(np.float16)
    assert 0.0 <= ece(probabilities, np.zeros(50, dtype=int))["ece"] <= 1.0
    assert accuracy([[0.2, 0.7995], [0.5, 0.5]], [1, 0])["accuracy"] == 1.0


def test_sums_are_not_renormalised():
    assert brier([[0.2, 0.7995]], [1])["brier"] == pytest.approx(0.2**2 + 0.2005**2, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_takes_labels_of_any_integer_type(dtype):
    assert accuracy(GOOD, np.array([1, 0], dtype=dtype))["accuracy"] == 1.0


def test_takes_integer_and_boolean_one_hot_rows():
    assert brier([[0, 1], [1, 0]], [1, 1])["brier"] == 1.0
    assert brier(np.array([[False, True]]), [0])["brier"] == 2.0


def test_does_not_copy_arrays_or_tensors():
    array = np.array(GOOD, dtype=np.float32)
    tensor = torch.tensor(GOOD, requires_grad=True)
    assert np.shares_memory(as_array(array, "x"), array)
    assert np.shares_memory(as_array(tensor, "x"), tensor.detach().numpy())


def test_takes_bfloat16():
    tensor = torch.tensor([[0.25, 0.75]], dtype=torch.bfloat16)
    np.testing.assert_array_equal(as_array(tensor, "x"), [[0.25, 0.75]])


@pytest.mark.parametrize("metric", SOFT)
@pytest.mark.parametrize("case", BAD_PROBABILITIES)
def test_soft_metrics_refuse_what_are_no_probabilities(metric, case):
    probabilities, message = BAD_PROBABILITIES[case]
    with pytest.raises(ValueError, match=message):
        metric(probabilities, GOOD)


BAD_DISTRIBUTIONS = {
    "labels": ([0, 1], "label_distributions must have the shape \\[2, 2\\].*not \\[2\\]: give for each example"),
    "too few": ([[0.5, 0.5]], "label_distributions must have the shape \\[2, 2\\]"),
    "other classes": ([[0.5, 0.3, 0.2]] * 2, "label_distributions must have the shape \\[2, 2\\]"),
    "ragged": ([[0.5, 0.5], [1.0]], "label_distributions is not a regular array"),
    "text": ([["a", "b"]] * 2, "label_distributions must be real numbers"),
    "counts": ([[3, 7], [1, 9]], "row 0 of label_distributions \\(sum 10\\) does not sum to one: divide each"),
    "negative": ([[0.5, 0.5], [1.5, -0.5]], "row 1 of label_distributions holds a negative value: divide"),
    "NaN": ([[0.5, np.nan], [0.5, 0.5]], "row 0 of label_distributions holds NaN"),
}


@pytest.mark.parametrize("metric", SOFT)
@pytest.mark.parametrize("case", BAD_DISTRIBUTIONS)
def test_refuses_what_are_no_label_distributions(metric, case):
    distributions, message = BAD_DISTRIBUTIONS[case]
    with pytest.raises(ValueError, match=message):
        metric(GOOD, distributions)


def test_soft_ece_refuses_numbers_of_bins():
    with pytest.raises(ValueError, match="num_bins must be an integer of at least 1"):
        soft_ece(GOOD, GOOD, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("metric", [*METRICS, *SOFT])
def test_takes_tensors_of_any_precision(metric, dtype):
    # Values that all of them hold exactly, on edges between bins, equal ones, zero and one, and a bin for many.
    rows = [[0.25, 0.75, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0], [0.625, 0.25, 0.125], [0.5, 0.25, 0.25]]
    labels = [1, 1, 2, 0, 2]
    references = torch.tensor(rows[::-1], dtype=dtype) if metric in SOFT else torch.tensor(labels)
    value = metric(torch.tensor(rows, dtype=dtype), references)
    expected = metric(rows, rows[::-1] if metric in SOFT else labels)
    np.testing.assert_equal(_plain(value), _plain(expected))


def test_names_bfloat16_rows_that_rounding_has_spoilt():
    spoilt = torch.tensor([[0.4, 0.6]], dtype=torch.bfloat16)  # 1.002 in sum
    with pytest.raises(ValueError, match="does not sum to one: apply softmax, in float32 or better"):
        accuracy(spoilt, [0])


def _plain(value):
    return value if isinstance(value, dict) else vars(value)
