import math
import tracemalloc

import numpy as np
import pytest

from hf_scorevi.metrics import classwise_ece, ece


def classwise_ece_by_loops(probabilities, labels, num_bins):
    """The definition, class by class and bin by bin, with the edges compared in float32."""
    edges = np.linspace(0, 1, num_bins + 1).astype(np.float32)
    num_examples, num_classes = probabilities.shape
    total = 0.0
    for k in range(num_classes):
        for index in range(num_bins):
            inside = []
            for row, label in zip(probabilities, labels, strict=True):
                p = np.float32(row[k])
                above = index == 0 or p > edges[index]
                below = index == num_bins - 1 or p <= edges[index + 1]
                if above and below:
                    inside.append((float(row[k]), label == k))
            if inside:
                confidence = math.fsum(p for p, _ in inside) / len(inside)
                share = sum(hit for _, hit in inside) / len(inside)
                total += len(inside) / num_examples * abs(share - confidence)
    return total / num_classes


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("num_bins", [1, 2, 7, 15])
def test_agrees_with_loops(make_predictions, num_bins, dtype):
    probabilities, labels = make_predictions(num_examples=120, num_classes=5, seed=num_bins)
    probabilities = probabilities.astype(dtype)
    assert classwise_ece(probabilities, labels, num_bins) == {
        "classwise_ece": pytest.approx(classwise_ece_by_loops(probabilities, labels, num_bins), rel=1e-9),
        "num_bins": num_bins,
        "binning": "equal_width",
        "norm": "l1",
    }


def test_values_on_edges_and_beyond_one_agree_with_loops():
    probabilities = np.array([[0.2, 0.8], [0.6, 0.4], [1.0, 0.0], [1.0000001, 0.0], [0.4, 0.6], [0.0, 1.0]])
    labels = np.array([1, 0, 0, 1, 0, 1])
    for num_bins in (1, 5, 10):
        value = classwise_ece(probabilities, labels, num_bins)["classwise_ece"]
        assert value == pytest.approx(classwise_ece_by_loops(probabilities, labels, num_bins), rel=1e-12)


def test_by_hand():
    # Bins [0, 1/2] and (1/2, 1]. Class 0: {0.3, 0.1} without a hit, {0.6} with one. Class 1: {0.4, 0.4} with one hit,
    # {0.9} with one. Class 2: {0, 0.3, 0} without a hit.
    probabilities = [[0.6, 0.4, 0.0], [0.3, 0.4, 0.3], [0.1, 0.9, 0.0]]
    first = (2 * 0.2 + 0.4) / 3
    second = (2 * abs(0.5 - 0.4) + 0.1) / 3
    third = 0.3 / 3
    value = classwise_ece(probabilities, [0, 1, 1], num_bins=2)["classwise_ece"]
    assert value == pytest.approx((first + second + third) / 3)


def test_fifteen_bins_by_default():
    assert classwise_ece([[0.5, 0.5]], [0])["num_bins"] == 15


def test_extremes():
    certain = [[0.0, 1.0], [1.0, 0.0]]
    assert classwise_ece(certain, [1, 0])["classwise_ece"] == 0.0
    assert classwise_ece(certain, [0, 1])["classwise_ece"] == 1.0
    assert classwise_ece([[0.25, 0.75]], [1])["classwise_ece"] == pytest.approx(0.25)  # one example


def test_two_classes_have_one_error():
    # Away from edges, which belong to the bin below, p and 1 - p fall into bins that mirror each other.
    probabilities = np.array([[0.31, 0.69], [0.93, 0.07], [0.55, 0.45], [0.12, 0.88]])
    labels = np.array([0, 0, 1, 1])
    one_class = sum(abs((labels[i] == 0) - probabilities[i, 0]) for i in range(4)) / 4  # each in a bin of its own
    assert classwise_ece(probabilities, labels, 10)["classwise_ece"] == pytest.approx(one_class)


def test_frequencies_as_probabilities_are_calibrated():
    probabilities = np.tile([0.7, 0.2, 0.1], (10, 1))
    assert classwise_ece(probabilities, [0] * 7 + [1, 1, 2])["classwise_ece"] == pytest.approx(0.0, abs=1e-12)


def test_sees_what_the_top_label_does_not():
    # Always 0.6 for class 0, right six times in ten; the rest is 0.4 for class 1, where it should be for class 2.
    probabilities, labels = np.tile([0.6, 0.4, 0.0], (10, 1)), [0] * 6 + [2] * 4
    assert ece(probabilities, labels)["ece"] == pytest.approx(0.0, abs=1e-12)
    assert classwise_ece(probabilities, labels)["classwise_ece"] == pytest.approx(0.8 / 3)


@pytest.mark.parametrize("order", ["C", "F"])
def test_does_not_depend_on_the_chunks_and_leaves_its_input_alone(make_predictions, monkeypatch, order):
    probabilities, labels = make_predictions(num_examples=101)
    probabilities = np.array(probabilities, order=order)
    before = probabilities.copy()
    whole = classwise_ece(probabilities, labels)["classwise_ece"]
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 20)
    assert classwise_ece(probabilities, labels)["classwise_ece"] == pytest.approx(whole, rel=1e-12)
    np.testing.assert_array_equal(probabilities, before)


def test_takes_integer_and_boolean_one_hot_rows():
    assert classwise_ece([[0, 1], [1, 0]], [1, 1])["classwise_ece"] == 0.5
    assert classwise_ece(np.array([[False, True]]), [0])["classwise_ece"] == 1.0


def test_memory_is_that_of_a_chunk():
    # 80 MB of predictions, as many of them beyond the first bin as there can be in rows that sum to one.
    num_examples, num_classes = 20_000, 1000
    probabilities = np.zeros((num_examples, num_classes), dtype=np.float32)
    probabilities[:, ::72] = 1 / 14
    labels = np.zeros(num_examples, dtype=np.int64)
    tracemalloc.start()
    try:
        classwise_ece(probabilities, labels)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20e6
