import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error

from hf_scorevi.metrics import mse_mae


def test_agrees_with_sklearn(monkeypatch):
    rng = np.random.default_rng(0)
    samples, targets = rng.normal(size=(101, 6)), rng.normal(size=101)
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 20)
    means = samples.mean(axis=1)
    assert mse_mae(samples, targets) == {
        "mse": pytest.approx(mean_squared_error(targets, means), rel=1e-12),
        "rmse": pytest.approx(mean_squared_error(targets, means) ** 0.5, rel=1e-12),
        "mae": pytest.approx(mean_absolute_error(targets, means), rel=1e-12),
        "point": "mean",
        "num_samples": 6,
    }


def test_of_one_sample():
    result = mse_mae([[1.0], [4.0]], [1.0, 2.0])
    assert (result["mse"], result["mae"]) == (2.0, 1.0)
