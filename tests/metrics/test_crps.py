import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from hf_scorevi.metrics import crps
from hf_scorevi.metrics.chunks import CHUNK_ELEMENTS

STANDARD_NORMAL = 0.23369497725510913  # of N(0, 1) at 0: (√2 - 1) / √π


def by_double_loop(samples, targets, fair):
    values = []
    for row, target in zip(samples, targets, strict=True):
        size = len(row)
        pairs = sum(abs(a - b) for a in row for b in row)
        values.append(abs(row - target).mean() - pairs / (2 * size * (size - 1 if fair else size)))
    return np.mean(values)


@pytest.mark.parametrize("estimator", ["fair", "biased"])
@pytest.mark.parametrize("digits", [0, 12])  # many equal samples, and none
def test_agrees_with_the_double_loop(estimator, digits):
    rng = np.random.default_rng(0)
    samples, targets = np.round(rng.normal(size=(13, 7)), digits), rng.normal(size=13)
    result = crps(samples, targets, estimator)
    expected = by_double_loop(samples, targets, estimator == "fair")
    assert result["crps"] == pytest.approx(expected, rel=1e-12)
    assert result["crps"] == pytest.approx(result["absolute_error"] - result["half_spread"], rel=1e-12)
    assert (result["estimator"], result["num_samples"]) == (estimator, 7)


def test_biased_is_the_integral_over_the_samples_distribution_function():
    samples, target = np.array([0.3, -1.0, 2.0, 0.3]), 0.7

    def squared_gap(z):
        return ((samples <= z).mean() - (target <= z)) ** 2

    integral = quad(squared_gap, -1.0, 2.0, points=[0.3, 0.7], limit=200)[0]
    assert crps([samples], [target], "biased")["crps"] == pytest.approx(integral, rel=1e-9)


def test_fair_is_unbiased_and_biased_too_large_by_what_is_said():
    rng = np.random.default_rng(0)
    n, size = 100_000, 5
    samples, targets = rng.normal(size=(n, size)), np.zeros(n)
    each = np.abs(samples).mean(axis=1)  # dominates the variance: the spread varies less
    error = 4 * each.std() / math.sqrt(n) * 2
    assert crps(samples, targets)["crps"] == pytest.approx(STANDARD_NORMAL, abs=error)
    bias = 2 / math.sqrt(math.pi) / (2 * size)  # E|X - X'| = 2 / √π
    assert error < bias / 4
    assert crps(samples, targets, "biased")["crps"] == pytest.approx(STANDARD_NORMAL + bias, abs=error)


def test_of_the_normal_quantiles_is_the_closed_form():
    size = 20_000
    samples = norm.ppf((np.arange(size) + 0.5) / size)
    assert crps([samples], [0.0], "biased")["crps"] == pytest.approx(STANDARD_NORMAL, abs=1e-4)


@pytest.mark.parametrize("estimator", ["fair", "biased"])
def test_one_sample_and_a_constant_are_point_forecasts(estimator):
    one = crps([[1.0], [4.0]], [3.0, 3.5], estimator)
    assert (one["crps"], one["half_spread"]) == (1.25, 0.0)
    assert crps([[2.0] * 6], [5.0], estimator)["crps"] == 3.0
    assert crps([[5.0] * 6], [5.0], estimator)["crps"] == 0.0


def test_fair_is_never_negative_and_zero_between_two_samples():
    rng = np.random.default_rng(0)
    samples, targets = rng.normal(size=(200, 3)), rng.normal(size=200)
    assert min(crps([row], [y])["crps"] for row, y in zip(samples, targets, strict=True)) > -1e-15
    assert crps([[-1.0, 3.0]], [0.5])["crps"] == 0.0
    assert crps([[-1.0, 3.0]], [4.0])["crps"] == 3.0 - 2.0


def test_a_large_offset_costs_no_digits():
    rng = np.random.default_rng(0)
    samples, targets = rng.integers(-8, 8, size=(50, 30)) / 8, rng.integers(-8, 8, size=50) / 8
    expected = crps(samples, targets)["crps"]
    assert crps(samples + 2.0**40, targets + 2.0**40)["crps"] == pytest.approx(expected, rel=1e-12)


def test_takes_tensors_and_does_not_depend_on_the_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    samples, targets = torch.from_numpy(rng.normal(size=(101, 6))), torch.from_numpy(rng.normal(size=101))
    whole = crps(samples, targets)["crps"]
    before = samples.clone()
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 20)
    assert crps(samples, targets)["crps"] == pytest.approx(whole, rel=1e-12)
    assert torch.equal(samples, before)
    low = samples.to(torch.bfloat16)
    assert crps(low, targets)["crps"] == pytest.approx(crps(low.double(), targets)["crps"], rel=1e-12)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_does_not_grow_with_the_number_of_samples(order):
    samples = np.zeros((20_000, 1000), dtype=np.float32, order=order)  # 80 MB
    tracemalloc.start()
    try:
        crps(samples, np.zeros(20_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 8 * CHUNK_ELEMENTS


def test_refuses_estimators():
    with pytest.raises(ValueError, match='estimator must be "fair" or "biased", not \'pwm\''):
        crps([[1.0, 2.0]], [1.0], "pwm")
