import math
import tracemalloc

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from hf_scorevi.metrics import crps, crps_gaussian_mixture


def value(*inputs):
    return crps_gaussian_mixture(*inputs)["crps_gaussian_mixture"]


def test_of_the_standard_normal_is_the_constant():
    assert crps_gaussian_mixture([[0.0]], 1.0, [0.0]) == {
        "crps_gaussian_mixture": pytest.approx(0.23369497725510913, rel=1e-14),
        "num_components": 1,
        "weights": "equal",
    }


@pytest.mark.parametrize(("mean", "deviation", "target"), [(0.0, 1.0, 0.7), (2.0, 0.3, -1.0), (-1.0, 5.0, 4.0)])
def test_of_one_gaussian_is_the_closed_form(mean, deviation, target):
    z = (target - mean) / deviation
    expected = deviation * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / math.sqrt(math.pi))
    assert value([[mean]], deviation, [target]) == pytest.approx(expected, rel=1e-12)
    assert value([[mean] * 4], deviation, [target]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_quadrature(seed):
    rng = np.random.default_rng(seed)
    means, deviations, target = rng.normal(size=4), rng.uniform(0.3, 2.0, size=4), rng.normal()

    def squared_gap(z):
        return (norm.cdf(z, means, deviations).mean() - (target <= z)) ** 2

    integral = quad(squared_gap, -30, target, limit=200)[0] + quad(squared_gap, target, 30, limit=200)[0]
    assert value([means], [deviations], [target]) == pytest.approx(integral, rel=1e-7)


def test_points_are_the_biased_estimate_of_samples():
    rng = np.random.default_rng(0)
    samples, targets = np.round(rng.normal(size=(20, 6)), 1), np.round(rng.normal(size=20), 1)
    expected = crps(samples, targets, "biased")["crps"]
    assert value(samples, 0.0, targets) == pytest.approx(expected, rel=1e-12)
    assert value(samples, 1e-300, targets) == pytest.approx(expected, rel=1e-12)


def test_a_number_and_one_for_each_example_are_tables():
    rng = np.random.default_rng(0)
    means, targets, deviations = rng.normal(size=(3, 3)), rng.normal(size=3), np.array([0.5, 1.0, 2.0])
    table = np.repeat(deviations[:, None], 3, axis=1)
    assert value(means, deviations, targets) == value(means, table, targets)
    assert value(means, 0.5, targets) == value(means, np.full((3, 3), 0.5), targets)


def test_is_what_the_samples_tend_to():
    rng = np.random.default_rng(0)
    means, targets = rng.normal(size=(2000, 3)), rng.normal(size=2000)
    components = np.take_along_axis(means, rng.integers(3, size=(2000, 50)), axis=1)
    samples = rng.normal(components, 0.7)
    # 100 000 samples with a standard deviation of about 1.
    assert crps(samples, targets)["crps"] == pytest.approx(
        value(means, 0.7, targets), abs=4 * 1.3 / math.sqrt(100_000)
    )


def test_chunks_bound_the_memory_and_do_not_change_the_value(monkeypatch):
    rng = np.random.default_rng(0)
    means, targets = rng.normal(size=(20_000, 8)).astype(np.float32), rng.normal(size=20_000)
    whole = value(means, 1.0, targets)
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 2**13)
    tracemalloc.start()
    try:
        assert value(means, 1.0, targets) == pytest.approx(whole, rel=1e-12)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * 8 * 2**13  # the input has 20 times the elements of a chunk
