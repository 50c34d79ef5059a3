import math
import tracemalloc

import numpy as np
import pytest
from scipy.stats import norm

from hf_scorevi.metrics import interval_coverage
from hf_scorevi.metrics.chunks import CHUNK_ELEMENTS

LEVELS = [0.5, 0.8, 0.9, 0.95]


def test_of_normal_quantiles_is_the_closed_form():
    rng = np.random.default_rng(0)
    n = 4000
    samples = np.tile(norm.ppf((np.arange(999) + 1) / 1000), (n, 1))
    result = interval_coverage(samples, rng.normal(size=n))
    bounds = norm.ppf((1 + np.array(LEVELS)) / 2)
    alpha = 1 - np.array(LEVELS)
    # E of the score: width + 2/α × 2 × E(Y - u)₊, with E(Y - u)₊ = φ(u) - u (1 - Φ(u)).
    scores = 2 * bounds + 4 / alpha * (norm.pdf(bounds) - bounds * norm.sf(bounds))
    assert result["levels"] == LEVELS
    assert result["mean_width"] == pytest.approx(2 * bounds, rel=0.01)  # quantiles of 999 points
    assert result["interval_coverage"] == pytest.approx(LEVELS, abs=4 * 0.5 / math.sqrt(n))
    assert result["interval_score"] == pytest.approx(scores, rel=0.1)
    assert (result["num_samples"], result["interval"], result["quantiles"]) == (999, "central", "linear")


def test_by_hand():
    # Of 0, 1, 2, 3, 4 the interval of 50 % is [1, 3].
    result = interval_coverage([[4.0, 0.0, 2.0, 1.0, 3.0]] * 4, [1.0, 3.0, 0.5, 5.0], [0.5])
    assert result["interval_coverage"] == [0.5]  # the ends belong to it
    assert result["mean_width"] == [2.0]
    assert result["interval_score"] == [(2 + 2 + (2 + 4 * 0.5) + (2 + 4 * 2)) / 4]


def test_few_samples_cover_less_as_is_said():
    rng = np.random.default_rng(0)
    n, size = 40_000, 9
    coverage = interval_coverage(rng.random((n, size)), rng.random(n), [0.5, 0.9])["interval_coverage"]
    expected = np.array([0.5, 0.9]) * (size - 1) / (size + 1)
    assert coverage == pytest.approx(expected, abs=4 * 0.5 / math.sqrt(n))


def test_one_sample_and_a_constant_have_no_width():
    for samples in ([[2.0], [3.0]], [[2.0] * 5, [3.0] * 5]):
        result = interval_coverage(samples, [2.0, 4.0], [0.5, 0.9])
        assert result["interval_coverage"] == [0.5, 0.5]
        assert result["mean_width"] == [0.0, 0.0]
        assert result["interval_score"] == pytest.approx([4 * 1 / 2, 20 * 1 / 2])


def test_does_not_depend_on_the_chunks_and_leaves_the_samples_alone(monkeypatch):
    rng = np.random.default_rng(0)
    samples, targets = rng.normal(size=(101, 7)), rng.normal(size=101)
    before, whole = samples.copy(), interval_coverage(samples, targets)
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 20)
    parts = interval_coverage(samples, targets)
    for key in ("interval_coverage", "mean_width", "interval_score"):
        assert parts[key] == pytest.approx(whole[key], rel=1e-12)
    np.testing.assert_array_equal(samples, before)


def test_memory_does_not_grow_with_the_number_of_samples():
    samples = np.zeros((20_000, 1000), dtype=np.float32)  # 80 MB
    tracemalloc.start()
    try:
        interval_coverage(samples, np.zeros(20_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 8 * CHUNK_ELEMENTS
