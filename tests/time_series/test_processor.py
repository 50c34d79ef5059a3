"""Standardisation against scikit-learn, its inverse on forecasts, its file, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from hf_scorevi import ForecastOutput
from hf_scorevi.time_series import SeriesProcessor, processor

RNG = np.random.default_rng(0)
TRAIN = RNG.normal(size=(200, 2)) * [3.0, 0.1] + [10.0, -5.0]


def test_standardisation_is_that_of_scikit_learn() -> None:
    found = SeriesProcessor.fit(TRAIN, ["a", "b"], frequency="h")
    scaler = StandardScaler().fit(TRAIN)
    np.testing.assert_allclose(found.mean, scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose(found.std, scaler.scale_, rtol=1e-12)
    other = RNG.normal(size=(30, 2)) * 5
    past = found(other)["past_values"]
    assert past.shape == (1, 30, 2) and past.dtype == torch.float32
    np.testing.assert_allclose(past[0], scaler.transform(other), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.standardize(torch.tensor(other)), scaler.transform(other), rtol=1e-5, atol=1e-5)


def test_series_come_in_several_forms() -> None:
    found = SeriesProcessor.fit(pd.DataFrame(TRAIN, columns=["a", "b"]))
    assert found.channels == ["a", "b"]
    whole = found(TRAIN)["past_values"]
    frame = pd.DataFrame({"b": TRAIN[:, 1], "date": pd.date_range("2024", periods=200), "a": TRAIN[:, 0]})
    assert torch.equal(found(frame)["past_values"], whole)
    assert torch.equal(found(frame, context_length=24)["past_values"], whole[:, -24:])
    both = found(np.stack([TRAIN[:50], TRAIN[50:100]]))["past_values"]
    assert both.shape == (2, 50, 2) and torch.equal(both[1], whole[0, 50:100])
    assert SeriesProcessor.fit(TRAIN[:, 0])(TRAIN[:7, 0])["past_values"].shape == (1, 7, 1)


def test_forecasts_are_taken_back_to_the_units_of_the_series() -> None:
    found = SeriesProcessor.fit(TRAIN, ["a", "b"])
    torch.manual_seed(0)
    paths = torch.randn(4000, 3, 5, 2, dtype=torch.float64)
    levels = (0.1, 0.5, 0.9)
    forecast = ForecastOutput(
        mean=paths.mean(0),
        epistemic_variance=0.25 * paths.var(0),
        aleatoric_variance=0.75 * paths.var(0),
        quantiles=paths.quantile(torch.tensor(levels, dtype=torch.float64), dim=0),
        quantile_levels=levels,
        num_samples=4000,
        paths=paths,
    )
    back = found.inverse(forecast)
    expected = paths * torch.tensor(TRAIN.std(0)) + torch.tensor(TRAIN.mean(0))
    torch.testing.assert_close(back.paths, expected)
    torch.testing.assert_close(back.mean, expected.mean(0))
    torch.testing.assert_close(back.variance, expected.var(0))
    torch.testing.assert_close(back.epistemic_variance, 0.25 * expected.var(0))
    torch.testing.assert_close(back.quantiles, expected.quantile(torch.tensor(levels, dtype=torch.float64), dim=0))
    assert back.samples is None and back.quantile_levels == levels and back.num_samples == 4000
    with pytest.raises(ValueError, match=r"2 channels, but the processor's are 0\."):
        SeriesProcessor.fit(TRAIN[:, 0]).inverse(forecast)


def test_a_constant_channel_is_shifted_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(processor.logger, "warning", warnings.append)
    values = np.column_stack([TRAIN[:, 0], np.full(200, 0.1)])  # the mean of 0.1s is not 0.1 to the last bit
    found = SeriesProcessor.fit(values, ["load", "broken"])
    assert len(warnings) == 1 and "constant over the training data: broken." in warnings[0]
    assert found.std[1] == 1.0 and found.std[0] == pytest.approx(TRAIN[:, 0].std())
    np.testing.assert_allclose(found.standardize(values)[:, 1], 0, atol=1e-7)


def test_it_is_saved_as_json_and_found_again(tmp_path: Path) -> None:
    found = SeriesProcessor.fit(TRAIN, ["a", "Überlast"], frequency="10min")
    found.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["preprocessor_config.json"]
    again = SeriesProcessor.from_pretrained(tmp_path)
    assert vars(again) == vars(found)
    assert torch.equal(again(TRAIN)["past_values"], found(TRAIN)["past_values"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_extractor_type": "ViTFeatureExtractor"}, "not of a SeriesProcessor but of ViTFeatureExtractor"),
        ({"feature_extractor_type": None}, "another kind"),
        ({"mean": 3.0}, "mean in preprocessor_config.json must be a list, not 3.0"),
        ({"mean": [1.0]}, "of the same length, at least 1, not 2, 1 and 2"),
        ({"std": [1.0, 0.0]}, "The std of channel 'b' must be a finite number above 0, not 0.0"),
        ({"std": [1.0, float("nan")]}, "The std of channel 'b' must be a finite number above 0, not nan"),
        ({"mean": ["1", 2]}, "The mean of channel 'a' must be a finite number, not '1'"),
        ({"channels": ["a", "a"]}, "different names"),
        ({"channels": [["a"], "b"]}, "different names"),
        ({"frequency": 3}, "frequency must be"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    SeriesProcessor.fit(TRAIN, ["a", "b"]).save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        SeriesProcessor.from_pretrained(tmp_path)


def test_unknown_entries_of_a_file_are_left_alone(tmp_path: Path) -> None:
    SeriesProcessor.fit(TRAIN).save_pretrained(tmp_path)
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"inverse": "x"}))
    assert callable(SeriesProcessor.from_pretrained(tmp_path).inverse)


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (TRAIN[:, :1], r"\(time steps, 2 channels\).*not \(200, 1\). The channels are a, b"),
        (pd.DataFrame({"a": [1.0], "c": [2.0]}), "no column 'b'; it has a, c"),
        (TRAIN[:3], "3 time steps, fewer than the context_length 4"),
        (np.where(np.arange(400).reshape(200, 2) == 397, np.nan, TRAIN), "channel 'b' at time step 2 of series 0"),
    ],
)
def test_a_series_that_does_not_fit_is_refused(series: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SeriesProcessor.fit(TRAIN, ["a", "b"])(series, context_length=4)


def test_a_training_series_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="2 channels, but channels names 1"):
        SeriesProcessor.fit(TRAIN, ["a"])
    with pytest.raises(ValueError, match="in channel 'b' at time step 0"):
        SeriesProcessor.fit([[1.0, np.nan], [2.0, 3.0]], ["a", "b"])
    with pytest.raises(ValueError, match="Give one series"):
        SeriesProcessor.fit(TRAIN).standardize(np.stack([TRAIN, TRAIN]))
