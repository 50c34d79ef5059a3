import numpy as np
import pytest

from hf_scorevi.metrics import adaptive_ece, ece


def adaptive_ece_by_loops(probabilities, labels, num_bins):
    """The definition with lists: sort, cut as `np.array_split` does, and let each run of equals follow its first."""
    examples = []
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        examples.append((float(np.float32(confidence)), confidence, row.index(confidence) == label))
    examples.sort(key=lambda example: example[0])
    groups = [list(group) for group in np.array_split(np.arange(len(examples)), num_bins)]
    group_of = {position: index for index, group in enumerate(groups) for position in group}
    sums: dict[int, float] = {}
    first = 0
    for position, (compared, confidence, correct) in enumerate(examples):
        if compared != examples[first][0]:
            first = position
        sums[group_of[first]] = sums.get(group_of[first], 0.0) + correct - confidence
    return sum(abs(total) for total in sums.values()) / len(examples)


@pytest.mark.parametrize("num_bins", [1, 4, 15, 100])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loops(make_predictions, seed, num_bins):
    probabilities, labels = make_predictions(num_examples=203, seed=seed)
    assert adaptive_ece(probabilities, labels, num_bins) == {
        "adaptive_ece": pytest.approx(adaptive_ece_by_loops(probabilities, labels, num_bins), rel=1e-9),
        "num_bins": num_bins,
        "binning": "equal_mass",
        "norm": "l1",
    }


@pytest.mark.parametrize("digits", [1, 2])
@pytest.mark.parametrize("num_bins", [2, 7, 15, 400])
def test_agrees_with_loops_where_many_confidences_are_equal(make_predictions, num_bins, digits):
    probabilities, labels = make_predictions(num_examples=203, num_classes=2)
    probabilities = np.round(probabilities, digits)
    value = adaptive_ece(probabilities, labels, num_bins)["adaptive_ece"]
    assert value == pytest.approx(adaptive_ece_by_loops(probabilities, labels, num_bins), rel=1e-9)


def test_by_hand():
    # Two groups: {0.6 wrong, 0.7 right, 0.8 right} and {0.9 right, 0.95 wrong}; the first is the larger one.
    probabilities = [[0.95, 0.05], [0.7, 0.3], [0.4, 0.6], [0.9, 0.1], [0.2, 0.8]]
    expected = (abs(2 - 2.1) + abs(1 - 1.85)) / 5
    assert adaptive_ece(probabilities, [1, 0, 0, 0, 1], num_bins=2)["adaptive_ece"] == pytest.approx(expected)


def test_equal_confidences_follow_their_first():
    # Sorted 0.6, 0.8, 0.8, 0.9: the cut after two would divide the equals, so that 0.9 is alone above.
    probabilities = [[0.6, 0.4], [0.8, 0.2], [0.8, 0.2], [0.9, 0.1]]
    expected = (abs((1 + 1 + 0) - 2.2) + abs(1 - 0.9)) / 4
    assert adaptive_ece(probabilities, [0, 0, 1, 0], num_bins=2)["adaptive_ece"] == pytest.approx(expected)


def test_does_not_depend_on_the_order_of_the_examples(make_predictions):
    probabilities, labels = make_predictions(num_classes=3)
    probabilities = np.round(probabilities, 1)
    probabilities[:, 0] += 1 - probabilities.sum(axis=1)
    probabilities = np.abs(probabilities)  # of a zero by rounding
    value = adaptive_ece(probabilities, labels)["adaptive_ece"]
    rng = np.random.default_rng(0)
    for _ in range(5):
        order = rng.permutation(len(labels))
        assert adaptive_ece(probabilities[order], labels[order])["adaptive_ece"] == pytest.approx(value, rel=1e-12)


def test_equals_are_the_same_in_any_precision():
    # 0.7 and 1 - 0.3 differ in float64 by rounding alone.
    probabilities = np.array([[0.7, 0.3], [1 - 0.3, 0.3], [0.7, 0.3], [0.9, 0.1]])
    labels = [0, 1, 1, 0]
    value = adaptive_ece(probabilities, labels, num_bins=3)["adaptive_ece"]
    assert value == pytest.approx((abs(1 - 2.1) + 0.1) / 4)
    assert adaptive_ece(probabilities.astype(np.float32), labels, 3)["adaptive_ece"] == pytest.approx(value, rel=1e-6)


def test_one_confidence_is_one_bin():
    probabilities = np.tile([0.7, 0.2, 0.1], (10, 1))
    assert adaptive_ece(probabilities, [0] * 7 + [1, 1, 2])["adaptive_ece"] == pytest.approx(0.0, abs=1e-12)


def test_one_bin_is_the_ece_of_one_bin(make_predictions):
    predictions = make_predictions()
    assert adaptive_ece(*predictions, 1)["adaptive_ece"] == pytest.approx(ece(*predictions, 1)["ece"], rel=1e-12)


def test_fewer_examples_than_bins_have_a_bin_each():
    probabilities = [[0.6, 0.4], [0.3, 0.7], [0.9, 0.1]]
    assert adaptive_ece(probabilities, [0, 0, 0])["adaptive_ece"] == pytest.approx((0.4 + 0.7 + 0.1) / 3)
    assert adaptive_ece([[0.25, 0.75]], [1])["adaptive_ece"] == pytest.approx(0.25)


def test_extremes():
    certain = [[0.0, 1.0], [1.0, 0.0]]
    assert adaptive_ece(certain, [1, 0])["adaptive_ece"] == 0.0
    assert adaptive_ece(certain, [0, 1])["adaptive_ece"] == 1.0


def test_fifteen_bins_by_default():
    assert adaptive_ece([[0.5, 0.5]], [0])["num_bins"] == 15
