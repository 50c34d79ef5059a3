import json
import math

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from hf_scorevi.metrics import ReliabilityBins, bin_confidences, ece, reliability_bins


def binary(confidences, dtype=np.float64):
    """Rows whose first class has these probabilities, which are at least one half."""
    first = np.asarray(confidences, dtype=dtype)
    return np.stack([first, 1 - first], axis=1)


@pytest.mark.parametrize("num_bins", [1, 2, 10, 15, 50])
def test_agrees_with_sklearn(make_predictions, num_bins):
    probabilities, labels = make_predictions(num_examples=2000)
    bins = reliability_bins(probabilities, labels, num_bins)
    correct = probabilities.argmax(axis=1) == labels
    accuracy, confidence = calibration_curve(correct, probabilities.max(axis=1), n_bins=num_bins)
    filled = bins.counts > 0
    np.testing.assert_allclose(bins.accuracy[filled], accuracy, rtol=1e-12)
    np.testing.assert_allclose(bins.mean_confidence[filled], confidence, rtol=1e-12)


def test_edges_and_counts_cover_everything(make_predictions):
    bins = reliability_bins(*make_predictions(), num_bins=15)
    np.testing.assert_allclose(bins.edges, np.arange(16) / 15)
    assert bins.counts.shape == bins.accuracy.shape == bins.mean_confidence.shape == (15,)
    assert bins.counts.sum() == 500


def test_empty_bins_are_nan():
    bins = reliability_bins(binary([0.9, 0.95]), [0, 1], num_bins=4)
    np.testing.assert_array_equal(bins.counts, [0, 0, 0, 2])
    np.testing.assert_array_equal(bins.accuracy, [np.nan, np.nan, np.nan, 0.5])
    np.testing.assert_allclose(bins.mean_confidence, [np.nan, np.nan, np.nan, 0.925])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("confidence", [0.6, 0.7, 0.8, 0.9])
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(confidence, dtype):
    # None of these is exact in binary: rounding must carry neither dtype over the edge.
    counts = reliability_bins(binary([confidence], dtype), [0], num_bins=10).counts
    assert counts.argmax() == round(10 * confidence) - 1


def test_just_above_an_edge_belongs_to_the_bin_above():
    assert reliability_bins(binary([0.6 + 1e-6]), [0], num_bins=10).counts.argmax() == 6


def test_confidence_one_and_beyond_by_rounding_belong_to_the_last_bin():
    probabilities = np.array([[1.0, 0.0], [1.0000001, 0.0], [0.0, 1.0]])
    bins = reliability_bins(probabilities, [0, 0, 0], num_bins=5)
    np.testing.assert_array_equal(bins.counts, [0, 0, 0, 0, 3])
    assert bins.accuracy[-1] == pytest.approx(2 / 3)


def test_the_lowest_confidence_belongs_to_the_first_bin():
    bins = reliability_bins(np.full((1, 10_000), 1e-4), [0], num_bins=3)
    np.testing.assert_array_equal(bins.counts, [1, 0, 0])


def test_ties_follow_argmax():
    assert reliability_bins([[0.5, 0.5]], [0], num_bins=2).accuracy[0] == 1.0
    assert reliability_bins([[0.5, 0.5]], [1], num_bins=2).accuracy[0] == 0.0


def test_one_class_always_predicted_fills_one_bin():
    bins = reliability_bins(np.tile([0.7, 0.2, 0.1], (8, 1)), [0, 0, 1, 2, 0, 0, 1, 1], num_bins=15)
    assert bins.counts.max() == 8
    filled = bins.counts.argmax()
    assert bins.accuracy[filled] == 0.5
    assert bins.mean_confidence[filled] == pytest.approx(0.7)


def test_confidences_give_the_same_bins_as_probabilities(make_predictions):
    probabilities, labels = make_predictions()
    expected = reliability_bins(probabilities, labels, 7)
    confidences, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    for bins in (
        bin_confidences(confidences, correct, 7),
        bin_confidences(confidences.tolist(), correct.tolist(), 7),
        bin_confidences(torch.from_numpy(confidences), torch.from_numpy(correct), 7),
    ):
        assert bins.to_dict() == expected.to_dict()


def test_confidences_by_hand():
    bins = bin_confidences([0.0, 0.5, 0.6, 1.0, 1.0000001], [False, True, True, True, False], num_bins=2)
    np.testing.assert_array_equal(bins.edges, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(bins.counts, [2, 3])
    np.testing.assert_allclose(bins.mean_confidence, [0.25, 2.6 / 3], rtol=1e-7)
    np.testing.assert_allclose(bins.accuracy, [0.5, 2 / 3])
    assert bins.ece == pytest.approx((2 * 0.25 + 3 * 0.2) / 5)


@pytest.mark.parametrize(
    ("confidences", "correct", "message"),
    [
        ([], [], "confidences must have the shape \\[examples\\], at least one, not \\[0\\]"),
        ([[0.5]], [[True]], "confidences must have the shape"),
        (0.5, True, "confidences must have the shape"),
        (["a"], [True], "confidences must be real numbers"),
        ([0.5], [1], "correct must be booleans of the shape \\[1\\].*predictions == labels"),
        ([0.5], [1.0], "correct must be booleans"),
        ([0.5], [True, False], "correct must be booleans of the shape \\[1\\].*shape \\[2\\]"),
        ([0.5, 1.01], [True, True], "confidences\\[1\\] is 1.01, not in \\[0, 1\\]"),
        ([-0.1], [True], "confidences\\[0\\] is -0.1"),
        ([0.5, math.nan], [True, True], "confidences\\[1\\] is nan"),
        ([math.inf], [True], "confidences\\[0\\] is inf"),
    ],
)
def test_refuses_what_are_no_confidences(confidences, correct, message):
    with pytest.raises(ValueError, match=message):
        bin_confidences(confidences, correct)


@pytest.mark.parametrize("num_bins", [0, -1, 1.5, True, "15", None])
def test_refuses_numbers_of_bins(num_bins):
    with pytest.raises(ValueError, match="num_bins must be an integer of at least 1"):
        bin_confidences([0.5], [True], num_bins)


@pytest.mark.parametrize("num_bins", [1, 15, 400])
def test_ece_is_that_of_the_metric(make_predictions, num_bins):
    predictions = make_predictions()
    value = reliability_bins(*predictions, num_bins).ece
    assert type(value) is float
    assert value == ece(*predictions, num_bins)["ece"]


@pytest.mark.parametrize("num_bins", [1, 15, 400])
def test_comes_back_from_json(make_predictions, num_bins):
    bins = reliability_bins(*make_predictions(), num_bins)
    text = json.dumps(bins.to_dict(), allow_nan=False)
    again = ReliabilityBins.from_dict(json.loads(text))
    for name in ("edges", "counts", "mean_confidence", "accuracy"):
        value, expected = getattr(again, name), getattr(bins, name)
        np.testing.assert_array_equal(value, expected)
        assert value.dtype == expected.dtype
    assert again.ece == bins.ece


def test_a_confidence_beyond_one_by_rounding_comes_back():
    bins = bin_confidences([1.0009], [True], 1)
    assert ReliabilityBins.from_dict(bins.to_dict()).mean_confidence[0] == 1.0009


def stored(**changes):
    return {
        "edges": [0.0, 0.5, 1.0],
        "counts": [0, 2],
        "mean_confidence": [None, 0.75],
        "accuracy": [None, 0.5],
    } | changes


def test_takes_whole_numbers_for_edges_and_means():
    bins = ReliabilityBins.from_dict(stored(edges=[0, 0.5, 1], accuracy=[None, 1]))
    assert bins.edges.dtype == bins.accuracy.dtype == np.float64
    assert bins.ece == pytest.approx(0.25)


DEEP: list = []
for _ in range(50_000):
    DEEP = [DEEP]
BAD_JSON = {
    "nothing": (None, "reliability bins must be an object, not None"),
    "a number": (1.5, "must be an object, not 1.5"),
    "a text": ("edges", "must be an object, not 'edges'"),
    "a list": (["edges", "counts", "mean_confidence", "accuracy"], "must be an object"),
    "a key too few": ({"edges": [0, 1], "counts": [1], "accuracy": [1]}, "'mean_confidence' is missing"),
    "a key too many": (stored(ece=0.1), "have the keys edges, counts, mean_confidence, accuracy, and not 'ece'"),
    "no list": (stored(counts=2), "counts of reliability bins must be a list, not 2"),
    "an object": (stored(accuracy={}), "accuracy of reliability bins must be a list"),
    "a text for a list": (stored(edges="01"), "edges of reliability bins must be a list"),
    "no bin": ({"edges": [0], "counts": [], "mean_confidence": [], "accuracy": []}, "1 to 10000 entries, not of 0"),
    "too many bins": (stored(counts=[1] * 10_001), "must be a list of 1 to 10000 entries, not of 10001"),
    "lengths": (
        stored(accuracy=[None, 0.5, 0.5]),
        "accuracy of reliability bins must be a list of 2 entries, not of 3",
    ),
    "lengths of edges": (stored(edges=[0, 1]), "edges of reliability bins must be a list of 3 entries, not of 2"),
    "text among edges": (
        stored(edges=[0, "0.5", 1]),
        "edges\\[1\\] of reliability bins must be a finite number from 0 to 1, not '0.5'",
    ),
    "bool among edges": (stored(edges=[False, 0.5, True]), "edges\\[0\\] of reliability bins must be a finite number"),
    "edges from elsewhere": (stored(edges=[0.1, 0.5, 1]), "must go from 0 to 1, not from 0.1 to 1.0"),
    "edges to elsewhere": (
        stored(edges=[0, 0.5, 10**400]),
        "edges\\[2\\] of reliability bins must be a finite number from 0 to 1",
    ),
    "edges that stand": (stored(edges=[0, 0, 1]), "must increase, but edges\\[1\\] is 0"),
    "edges beyond the last": (
        stored(edges=[0, 10**400, 1]),
        "edges\\[1\\] of reliability bins must be a finite number from 0 to 1",
    ),
    "NaN among edges": (stored(edges=[0, math.nan, 1]), "edges\\[1\\] of reliability bins must be a finite number"),
    "half an example": (
        stored(counts=[0, 2.5]),
        "counts\\[1\\] of reliability bins must be a whole number .*, not 2.5",
    ),
    "a whole float": (stored(counts=[0, 2.0]), "counts\\[1\\] of reliability bins must be a whole number .*, not 2.0"),
    "a negative count": (stored(counts=[-1, 2]), "counts\\[0\\]"),
    "a bool": (stored(counts=[False, True]), "counts\\[0\\]"),
    "no count": (stored(counts=[None, 2]), "counts\\[0\\]"),
    "more than there is": (stored(counts=[0, 10**400]), "counts\\[1\\] of reliability bins must be a whole number"),
    "more digits than Python prints": (stored(counts=[0, 10**5000]), "counts\\[1\\] .* not a value too long to show"),
    "no example": (
        stored(counts=[0, 0], mean_confidence=[None, None], accuracy=[None, None]),
        "must sum to 1 to 2\\^53 examples, not 0",
    ),
    "a mean of none": (stored(accuracy=[0.5, 0.5]), "accuracy\\[0\\] of reliability bins must be null exactly"),
    "no mean": (
        stored(mean_confidence=[None, None]),
        "mean_confidence\\[1\\] of reliability bins must be null exactly",
    ),
    "NaN for a mean": (
        stored(accuracy=[None, math.nan]),
        "accuracy\\[1\\] of reliability bins must be a finite number from 0 to 1, not nan",
    ),
    "infinity": (stored(accuracy=[None, math.inf]), "must be a finite number from 0 to 1, not inf"),
    "a mean below": (
        stored(mean_confidence=[None, -0.1]),
        "mean_confidence\\[1\\].* must be a finite number from 0 to 1.001, not -0.1",
    ),
    "a mean above": (stored(accuracy=[None, 1.0001]), "must be a finite number from 0 to 1, not 1.0001"),
    "a huge mean": (stored(accuracy=[None, 10**400]), "must be a finite number from 0 to 1"),
    "a text for a mean": (stored(accuracy=[None, "0.5"]), "must be a finite number from 0 to 1, not '0.5'"),
    "a list for a mean": (stored(accuracy=[None, [0.5]]), "must be a finite number from 0 to 1"),
    "deep nesting": (stored(accuracy=[None, DEEP]), "not a value too long to show"),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_refuses_what_are_no_stored_bins(case):
    values, message = BAD_JSON[case]
    with pytest.raises(ValueError, match=message):
        ReliabilityBins.from_dict(values)
