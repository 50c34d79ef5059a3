import math

import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from hf_scorevi.metrics import accuracy, brier, ece, nll, paired_bootstrap

NAMES = ("accuracy", "nll", "ece", "brier")


def values(probabilities, labels, num_bins=15):
    return {
        "accuracy": accuracy(probabilities, labels)["accuracy"],
        "nll": nll(probabilities, labels)["nll"],
        "ece": ece(probabilities, labels, num_bins)["ece"],
        "brier": brier(probabilities, labels)["brier"],
    }


@pytest.fixture
def models(make_predictions):
    """Calibrated predictions, the same made overconfident, and labels."""
    probabilities, labels = make_predictions(num_examples=300)
    sharper = probabilities**2
    return probabilities, sharper / sharper.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize("num_bins", [1, 15])
def test_values_are_those_of_the_metrics(models, num_bins):
    first, second, labels = models
    result = paired_bootstrap(first, second, labels, num_bins, num_resamples=10)
    expected = values(first, labels, num_bins), values(second, labels, num_bins)
    assert list(result) == list(NAMES)
    for name in NAMES:
        assert list(result[name]) == ["first", "second", "difference", "low", "high"]
        assert result[name]["first"] == pytest.approx(expected[0][name], rel=1e-12)
        assert result[name]["second"] == pytest.approx(expected[1][name], rel=1e-12)
        assert result[name]["difference"] == pytest.approx(expected[1][name] - expected[0][name], abs=1e-12)
        assert all(type(value) is float for value in result[name].values())


def test_interval_is_that_of_resampled_rows(models):
    first, second, labels = models
    result = paired_bootstrap(first, second, labels, num_resamples=99, level=0.9, seed=3)
    rng = np.random.default_rng(3)
    differences = []
    for _ in range(99):
        rows = rng.integers(300, size=300)
        one, other = values(first[rows], labels[rows]), values(second[rows], labels[rows])
        differences.append([other[name] - one[name] for name in NAMES])
    ordered = np.sort(differences, axis=0)
    for column, name in enumerate(NAMES):
        assert result[name]["low"] == pytest.approx(ordered[4, column], abs=1e-12)  # the fifth of 99, from either end
        assert result[name]["high"] == pytest.approx(ordered[94, column], abs=1e-12)


def test_agrees_with_scipy(models):
    first, second, labels = models
    rows = np.arange(300)
    differences = np.log(first[rows, labels]) - np.log(second[rows, labels])
    expected = bootstrap((differences,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    result = paired_bootstrap(first, second, labels, num_resamples=4000)["nll"]
    # A quantile of R normal draws, at tail a, has the standard error sqrt(a (1 - a) / R) / density, in units of sigma.
    error = math.sqrt(0.025 * 0.975 / 4000) / norm.pdf(norm.ppf(0.025)) * differences.std() / math.sqrt(300)
    assert result["low"] == pytest.approx(expected.low, abs=5 * math.sqrt(2) * error)
    assert result["high"] == pytest.approx(expected.high, abs=5 * math.sqrt(2) * error)


def test_of_a_model_with_itself_is_exactly_nothing(models):
    for value in paired_bootstrap(models[0], models[0], models[2], num_resamples=20).values():
        assert value["difference"] == value["low"] == value["high"] == 0.0


def test_exchanging_the_models_turns_the_sign(models):
    first, second, labels = models
    there = paired_bootstrap(first, second, labels, num_resamples=101)
    back = paired_bootstrap(second, first, labels, num_resamples=101)
    for name in NAMES:
        assert back[name]["difference"] == -there[name]["difference"]
        assert back[name]["low"] == -there[name]["high"]


def test_seed_and_level(models):
    one, again, other = (paired_bootstrap(*models, num_resamples=50, seed=seed)["nll"] for seed in (0, 0, 1))
    assert one == again != other
    narrow = paired_bootstrap(*models, num_resamples=50, level=0.5)["nll"]
    assert one["low"] < narrow["low"] < narrow["high"] < one["high"]


@pytest.mark.slow
def test_covers_the_true_difference_as_often_as_it_says():
    # Two models right with probabilities 0.8 and 0.7, and half of the time both for the same reason.
    rng = np.random.default_rng(0)
    repeats, n, hits = 150, 200, 0
    for seed in range(repeats):
        common, shared = rng.random(n) < 0.5, rng.random(n)
        first = np.where(common, shared, rng.random(n)) < 0.8
        second = np.where(common, shared, rng.random(n)) < 0.7
        tables = [np.where(right[:, None], [0.9, 0.1], [0.1, 0.9]) for right in (first, second)]
        interval = paired_bootstrap(*tables, np.zeros(n, dtype=int), num_resamples=200, level=0.9, seed=seed)
        hits += interval["accuracy"]["low"] <= -0.1 <= interval["accuracy"]["high"]
    # Standard error of the share, and two per cent for what a percentile interval lacks at this size.
    assert hits / repeats == pytest.approx(0.9, abs=3 * math.sqrt(0.09 / repeats) + 0.02)


def test_infinite_nll():
    sure = [[1.0, 0.0]] * 4 + [[0.0, 1.0]]
    fair = [[0.5, 0.5]] * 5
    labels = [0] * 5
    one = paired_bootstrap(fair, sure, labels, num_resamples=200)["nll"]
    assert one["first"] == pytest.approx(math.log(2))
    assert one["second"] == one["difference"] == one["high"] == math.inf
    assert one["low"] == pytest.approx(-math.log(2))  # of a resample without the impossible one
    other = paired_bootstrap(sure, fair, labels, num_resamples=200)["nll"]
    assert other["difference"] == other["low"] == -math.inf
    both = paired_bootstrap(sure, sure, labels, num_resamples=200)
    assert all(math.isnan(both["nll"][key]) for key in ("difference", "low", "high"))
    assert both["accuracy"]["difference"] == 0.0


def test_one_example():
    result = paired_bootstrap([[0.2, 0.8]], [[0.6, 0.4]], [0], num_resamples=5)
    assert result["accuracy"] == {"first": 0.0, "second": 1.0, "difference": 1.0, "low": 1.0, "high": 1.0}
    assert result["brier"]["low"] == pytest.approx(2 * 0.16 - 2 * 0.64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": [[0.5, 0.6]] * 2}, "row 0 of first \\(sum 1.1\\) does not sum to one"),
        ({"second": [[0.5, 0.6]] * 2}, "row 0 of second \\(sum 1.1\\) does not sum to one"),
        ({"second": [[0.5, 0.5]]}, "one shape, not \\[2, 2\\] and \\[1, 2\\]"),
        ({"labels": [0, 2]}, "labels\\[1\\] is 2, outside"),
        ({"num_bins": 0}, "num_bins must be an integer"),
        ({"num_resamples": 0}, "num_resamples must be an integer of at least 1, not 0"),
        ({"num_resamples": 1.5}, "num_resamples must be an integer"),
        ({"level": 1.0}, "level must lie between 0 and 1, not 1.0"),
        ({"level": math.nan}, "level must lie between"),
    ],
)
def test_refuses(change, message):
    good = {"first": [[0.5, 0.5]] * 2, "second": [[0.5, 0.5]] * 2, "labels": [0, 1]}
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(**(good | change))
