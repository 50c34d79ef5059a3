import math
import tracemalloc

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import gammaln

from hf_scorevi.metrics import crps, energy_score


@pytest.mark.parametrize("estimator", ["fair", "biased"])
def test_agrees_with_scipy(estimator):
    rng = np.random.default_rng(0)
    samples, targets = rng.normal(size=(11, 6, 3)), rng.normal(size=(11, 3))
    pairs = 6 * 5 if estimator == "fair" else 6 * 6
    distance = np.mean([cdist(x, y[None]).mean() for x, y in zip(samples, targets, strict=True)])
    half_spread = np.mean([cdist(x, x).sum() / (2 * pairs) for x in samples])
    assert energy_score(samples, targets, estimator) == {
        "energy_score": pytest.approx(distance - half_spread, rel=1e-12),
        "distance": pytest.approx(distance, rel=1e-12),
        "half_spread": pytest.approx(half_spread, rel=1e-12),
        "estimator": estimator,
        "num_samples": 6,
        "num_dimensions": 3,
        "norm": "euclidean",
    }


@pytest.mark.parametrize("estimator", ["fair", "biased"])
@pytest.mark.parametrize("num_samples", [1, 2, 7])
def test_of_one_dimension_is_the_crps(estimator, num_samples):
    rng = np.random.default_rng(0)
    samples, targets = np.round(rng.normal(size=(20, num_samples)), 1), rng.normal(size=20)
    result = energy_score(samples[..., None], targets[:, None], estimator)
    assert result["energy_score"] == pytest.approx(crps(samples, targets, estimator)["crps"], rel=1e-12)


def test_fair_is_unbiased():
    # E‖N(0, I)‖ in d dimensions is √2 Γ((d + 1) / 2) / Γ(d / 2); X - X' is √2 times as long.
    rng = np.random.default_rng(0)
    n, size, dimensions = 40_000, 3, 4
    length = math.sqrt(2) * math.exp(gammaln((dimensions + 1) / 2) - gammaln(dimensions / 2))
    truth = length - math.sqrt(2) * length / 2
    samples, targets = rng.normal(size=(n, size, dimensions)), np.zeros((n, dimensions))
    error = 4 * 1.0 / math.sqrt(n)  # the standard deviation of a length is below one
    assert energy_score(samples, targets)["energy_score"] == pytest.approx(truth, abs=error)
    bias = math.sqrt(2) * length / (2 * size)
    assert energy_score(samples, targets, "biased")["energy_score"] == pytest.approx(truth + bias, abs=error)
    assert bias > 4 * error


def test_sees_correlation_that_crps_does_not():
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.normal(size=(5000, 1)), 2, axis=1)  # two dimensions, always equal
    right = np.repeat(rng.normal(size=(5000, 20, 1)), 2, axis=2)
    wrong = rng.normal(size=(5000, 20, 2))
    assert energy_score(wrong, truth)["energy_score"] > energy_score(right, truth)["energy_score"] + 0.02


def test_equal_samples_are_a_point():
    result = energy_score([[[3.0, 4.0]] * 5], [[0.0, 0.0]])
    assert (result["energy_score"], result["half_spread"]) == (5.0, 0.0)


def test_chunks_bound_the_memory_and_do_not_change_the_value(monkeypatch):
    rng = np.random.default_rng(0)
    samples, targets = rng.normal(size=(4000, 10, 4)), rng.normal(size=(4000, 4))
    whole = energy_score(torch.from_numpy(samples), torch.from_numpy(targets))["energy_score"]
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 2**13)
    tracemalloc.start()
    try:
        assert energy_score(samples, targets)["energy_score"] == pytest.approx(whole, rel=1e-12)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * 8 * 2**13  # the input has 20 times the elements of a chunk
