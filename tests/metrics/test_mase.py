import numpy as np
import pytest

from hf_scorevi.metrics import mase


def test_by_hand():
    # Medians 2 and 4.5: errors 1 and 0.5, by 0.5 and 2.
    result = mase([[6.0, 1.0, 2.0, 2.0], [4.0, 5.0, 5.0, 4.0]], [3.0, 4.0], [0.5, 2.0])
    assert result == {"mase": (2 + 0.25) / 2, "absolute_error": 0.75, "point": "median", "num_samples": 4}


def test_of_equal_horizons_is_the_mean_over_series():
    rng = np.random.default_rng(0)
    forecasts, targets, scales = rng.normal(size=(5, 8)), rng.normal(size=(5, 8)), rng.uniform(1, 2, size=5)
    by_series = np.abs(forecasts - targets).mean(axis=1) / scales
    flat = mase(forecasts.reshape(-1, 1), targets.ravel(), np.repeat(scales, 8))
    assert flat["mase"] == pytest.approx(by_series.mean(), rel=1e-12)


def test_does_not_depend_on_the_unit_the_chunks_or_the_order_of_samples(monkeypatch):
    rng = np.random.default_rng(0)
    samples, targets, scales = rng.normal(size=(101, 6)), rng.normal(size=101), rng.uniform(1, 2, size=101)
    before, whole = samples.copy(), mase(samples, targets, scales)["mase"]
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 20)
    assert mase(8 * samples[:, ::-1], 8 * targets, 8 * scales)["mase"] == pytest.approx(whole, rel=1e-12)
    np.testing.assert_array_equal(samples, before)
