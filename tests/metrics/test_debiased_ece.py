import itertools
import math

import numpy as np
import pytest

from hf_scorevi.metrics import debiased_ece


def says(confidences):
    """Predictions of class 0 of these confidences: label 0 is right and label 1 wrong."""
    first = np.asarray(confidences, dtype=float)
    return np.stack([first, 1 - first], axis=1)


def draw(num_examples, rng, delta=0.0):
    """A model that is right with its confidence less delta."""
    confidences = rng.uniform(0.6, 1.0, num_examples)
    return says(confidences), np.where(rng.random(num_examples) < confidences - delta, 0, 1)


def squared_by_loops(probabilities, labels, num_bins):
    """Over each bin, the mean product of the gaps of two different examples: an unbiased estimate of their square."""
    bins: dict = {}
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        index = int(np.digitize(confidence, np.arange(1, num_bins) / num_bins, right=True))
        bins.setdefault(index, []).append((row.index(confidence) == label) - confidence)
    total = 0.0
    for gaps in bins.values():
        products = [a * b for a, b in itertools.permutations(gaps, 2)]
        total += len(gaps) * (sum(products) / len(products) if products else 0.0)
    return total / len(labels)


@pytest.mark.parametrize("num_bins", [1, 5, 15, 60])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loops_over_pairs(make_predictions, seed, num_bins):
    probabilities, labels = make_predictions(num_examples=80, seed=seed)
    result = debiased_ece(probabilities, labels, num_bins, num_resamples=5)
    squared = squared_by_loops(probabilities, labels, num_bins)
    assert result["squared"] == pytest.approx(squared, rel=1e-9, abs=1e-15)
    assert result["debiased_ece"] == pytest.approx(math.sqrt(max(squared, 0.0)))


def test_is_the_gap_squared_less_the_variance_of_its_mean():
    probabilities, labels = draw(50, np.random.default_rng(0))
    gaps = (labels == 0) - probabilities[:, 0]
    expected = gaps.mean() ** 2 - gaps.var(ddof=1) / 50
    assert debiased_ece(probabilities, labels, 1, num_resamples=2)["squared"] == pytest.approx(expected)


def test_declares_what_it_did():
    result = debiased_ece(*draw(40, np.random.default_rng(0)), 4, num_resamples=20, level=0.9, seed=7)
    declared = {"level": 0.9, "num_resamples": 20, "seed": 7, "num_bins": 4, "binning": "equal_width", "norm": "l2"}
    assert declared.items() <= result.items()
    assert 0.0 <= result["low"] <= result["high"]


def test_is_unbiased_where_the_plug_in_is_not():
    # 60 examples in 4 bins, with the same gap in all of them.
    repeats, delta = 2000, 0.1
    rng = np.random.default_rng(0)
    values = np.array([debiased_ece(*draw(60, rng, delta), 10, num_resamples=1)["squared"] for _ in range(repeats)])
    assert (values < 0).any()  # and reported
    assert values.mean() == pytest.approx(delta**2, abs=4 * values.std() / math.sqrt(repeats))


@pytest.mark.parametrize("delta", [0.05, 0.2])
def test_of_a_miscalibrated_model_is_how_much_it_is(delta):
    n = 50_000
    result = debiased_ece(*draw(n, np.random.default_rng(0), delta), num_resamples=100)
    # The squared error is the mean of g² over bins; to first order its error is 2 δ times that of the mean gap.
    assert result["debiased_ece"] == pytest.approx(delta, abs=4 * 0.5 / math.sqrt(n))
    assert result["low"] < delta < result["high"]


@pytest.mark.slow
@pytest.mark.parametrize(("delta", "at_least"), [(0.0, 0.95), (0.15, 0.90)])
def test_interval_covers_the_truth_as_often_as_it_says(delta, at_least):
    repeats, rng, hits = 200, np.random.default_rng(1), 0
    for seed in range(repeats):
        result = debiased_ece(*draw(400, rng, delta), 10, num_resamples=200, level=at_least, seed=seed)
        hits += result["low"] <= delta <= result["high"]
    share, error = hits / repeats, math.sqrt(at_least * (1 - at_least) / repeats)
    assert share >= at_least - 3 * error
    if delta:  # at zero the interval is known to be wide
        assert share <= at_least + 3 * error


def test_bins_of_one_example_count_as_no_gap():
    result = debiased_ece(says([0.55, 0.75, 0.95]), [1, 1, 1], num_bins=10, num_resamples=3)
    assert result["squared"] == result["debiased_ece"] == result["low"] == result["high"] == 0.0
    assert result["single_bins"] == 3
    assert debiased_ece([[0.2, 0.8]], [0], num_resamples=3)["single_bins"] == 1
    # Beside them a bin of two, both wrong at 0.65: its pair of gaps has the product 0.65².
    result = debiased_ece(says([0.65, 0.65, 0.95]), [1, 1, 1], num_bins=10, num_resamples=3)
    assert result["squared"] == pytest.approx(2 * 0.65**2 / 3)
    assert result["single_bins"] == 1


def test_extremes():
    certain = [[0.0, 1.0], [1.0, 0.0]] * 3
    right = debiased_ece(certain, [1, 0] * 3, num_resamples=10)
    assert right["debiased_ece"] == right["low"] == right["high"] == 0.0
    wrong = debiased_ece(certain, [0, 1] * 3, num_resamples=10)
    assert wrong["debiased_ece"] == wrong["low"] == wrong["high"] == 1.0


def test_seed_and_level():
    data = draw(200, np.random.default_rng(0), 0.2)
    one, again, other = (debiased_ece(*data, num_resamples=50, seed=seed) for seed in (0, 0, 1))
    assert one == again
    assert one["high"] != other["high"] and one["squared"] == other["squared"]
    narrow = debiased_ece(*data, num_resamples=50, level=0.5)
    assert one["low"] < narrow["low"] < narrow["high"] < one["high"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"num_resamples": 0}, "num_resamples must be an integer of at least 1"),
        ({"num_resamples": True}, "num_resamples must be an integer of at least 1"),
        ({"level": 0.0}, "level must lie between 0 and 1"),
        ({"level": 95}, "level must lie between 0 and 1, not 95"),
    ],
)
def test_refuses_options(option, message):
    with pytest.raises(ValueError, match=message):
        debiased_ece([[0.5, 0.5]], [0], **option)
