import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from hf_scorevi.metrics import quantile_calibration_error
from hf_scorevi.metrics.chunks import CHUNK_ELEMENTS


@pytest.mark.parametrize("digits", [12, 0])  # none and many equal values
@pytest.mark.parametrize("num_samples", [1, 4, 25])
def test_of_an_exact_predictive_the_pit_is_uniform(num_samples, digits):
    rng = np.random.default_rng(num_samples)
    n = 4000
    centres = rng.normal(size=(n, 1))
    samples = np.round(rng.normal(centres, size=(n, num_samples)), digits)
    targets = np.round(rng.normal(centres[:, 0]), digits)
    fine = quantile_calibration_error(samples, targets, num_bins=200)
    # Points of the empirical distribution function, spread within their bins.
    pit = np.repeat(np.array(fine["levels"][1:]), fine["pit_histogram"]) - rng.random(n) / 200
    assert kstest(pit, "uniform").pvalue > 1e-3
    assert chisquare(quantile_calibration_error(samples, targets)["pit_histogram"]).pvalue > 1e-3


def test_of_a_calibrated_model_has_the_expectation_that_is_said():
    n, repeats = 200, 300
    rng = np.random.default_rng(0)
    values = [
        quantile_calibration_error(rng.normal(size=(n, 3)), rng.normal(size=n), seed=i)["quantile_calibration_error"]
        for i in range(repeats)
    ]
    error = np.std(values) / math.sqrt(repeats)
    assert error < 0.1 * 1.65 / n
    assert np.mean(values) == pytest.approx(1.65 / n, abs=4 * error)


def test_tells_narrow_wide_and_shifted():
    rng = np.random.default_rng(0)
    samples, targets = rng.normal(size=(2000, 50)), rng.normal(size=2000)
    narrow = quantile_calibration_error(0.3 * samples, targets)
    wide = quantile_calibration_error(3.0 * samples, targets)
    shifted = quantile_calibration_error(samples - 1.0, targets)
    right = quantile_calibration_error(samples, targets)
    assert min(narrow["pit_histogram"][0], narrow["pit_histogram"][-1]) > 600
    assert max(wide["pit_histogram"][0], wide["pit_histogram"][-1]) < 20
    assert shifted["pit_histogram"][-1] > 600 > shifted["pit_histogram"][0] * 10
    for wrong in (narrow, wide, shifted):
        assert wrong["quantile_calibration_error"] > 20 * right["quantile_calibration_error"]


def test_by_hand():
    # Ranks 0 of 3 (u decides within [0, 1/4]), 3 of 3 and between: PIT in the quarters 1, 4 and 2.
    samples = [[1.0, 2.0, 3.0]] * 4
    result = quantile_calibration_error(samples, [0.0, 9.0, 1.5, 1.7], num_bins=4)
    assert result["pit_histogram"] == [1, 2, 0, 1]
    assert result["observed"] == [0.0, 0.25, 0.75, 0.75, 1.0]
    assert result["quantile_calibration_error"] == 0.25**2
    assert result["mean_absolute"] == 0.25 / 5
    assert (result["num_bins"], result["num_samples"], result["seed"]) == (4, 3, 0)
    assert (result["weights"], result["pit"]) == ("equal", "randomised_rank")


def test_seed_decides_among_ties():
    constant = np.ones((1000, 5)), np.ones(1000)
    first = quantile_calibration_error(*constant)
    assert first == quantile_calibration_error(*constant)
    assert first["pit_histogram"] != quantile_calibration_error(*constant, seed=1)["pit_histogram"]
    assert chisquare(first["pit_histogram"]).pvalue > 1e-3  # what never varies is predicted exactly


def test_one_example_counts_once():
    assert sum(quantile_calibration_error([[0.0]], [0.0])["pit_histogram"]) == 1


def test_does_not_depend_on_the_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    samples, targets = rng.normal(size=(101, 7)), rng.normal(size=101)
    whole = quantile_calibration_error(samples, targets)
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 20)
    assert quantile_calibration_error(samples, targets) == whole


@pytest.mark.parametrize("num_bins", [0, 1.5, True])
def test_refuses_numbers_of_bins(num_bins):
    with pytest.raises(ValueError, match="num_bins must be an integer of at least 1"):
        quantile_calibration_error([[1.0]], [1.0], num_bins)


def test_memory_does_not_grow_with_the_number_of_samples():
    samples = np.zeros((20_000, 1000), dtype=np.float32)  # 80 MB
    tracemalloc.start()
    try:
        quantile_calibration_error(samples, np.zeros(20_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 8 * CHUNK_ELEMENTS
