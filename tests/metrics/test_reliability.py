import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from hf_scorevi.metrics import reliability_bins


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
