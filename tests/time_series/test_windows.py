"""Windows of a series: their values and shapes, how many values they forecast, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from torch.utils.data import DataLoader

from hf_scorevi.models.koopa import KoopaConfig, KoopaForPrediction
from hf_scorevi.time_series import SlidingWindows, calendar_features, windows_for

SERIES = np.arange(60.0).reshape(20, 3)


def test_windows_are_the_slices_of_the_series() -> None:
    windows = SlidingWindows(SERIES, context_length=5, prediction_length=2, stride=3)
    assert len(windows) == 5  # starts 0, 3, 6, 9, 12; 15 + 7 is more than 20
    for i, window in enumerate(windows):
        assert set(window) == {"past_values", "future_values"}
        assert window["past_values"].dtype == torch.float32
        np.testing.assert_array_equal(window["past_values"], SERIES[3 * i : 3 * i + 5])
        np.testing.assert_array_equal(window["future_values"], SERIES[3 * i + 5 : 3 * i + 7])
    last = windows[-1]["past_values"]
    assert torch.equal(last, windows[4]["past_values"])
    assert last.untyped_storage().data_ptr() == windows.values.untyped_storage().data_ptr()  # a view
    with pytest.raises(IndexError, match="5 windows"):
        windows[5]


def test_a_series_of_exactly_one_window_has_one() -> None:
    assert len(SlidingWindows(SERIES, 15, 5)) == 1
    assert len(SlidingWindows(SERIES[:, 0], 15, 5)) == 1


@pytest.mark.parametrize(("stride", "length"), [(1, 4), (2, 4), (4, 4), (6, 4), (3, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_observed_value_counts_once_as_a_target(stride: int, length: int, channels: int) -> None:
    numbers = np.arange(30.0 * channels).reshape(30, channels)  # all different, so that they can be told apart
    windows = SlidingWindows(numbers, 5, length, stride=stride)
    targets = {float(value) for window in windows for value in window["future_values"].flatten()}
    assert windows.num_targets == len(targets)
    if channels == 1:
        assert SlidingWindows(numbers, 5, length, stride=stride, univariate=True).num_targets == len(targets)


def test_windows_carry_time_features_and_the_mask() -> None:
    features = np.stack([np.arange(20), -np.arange(20)], axis=1)
    window = SlidingWindows(SERIES, 5, 2, time_features=features)[4]
    np.testing.assert_array_equal(window["past_time_features"], features[4:9])
    np.testing.assert_array_equal(window["future_time_features"], features[9:11])
    assert torch.equal(window["past_observed_mask"], torch.ones(5, 3))
    assert SlidingWindows(SERIES[:, :1], 5, 2, univariate=True)[0]["future_values"].tolist() == [15.0, 18.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e39])
def test_values_that_are_not_finite_are_named(bad: float) -> None:
    values = SERIES.copy()
    values[7, 2] = bad
    with pytest.raises(ValueError, match="1 values that are NaN or infinite, the first in channel 2 at time step 7"):
        SlidingWindows(values, 5, 2)
    frame = pd.DataFrame(values, columns=["a", "b", "load"])
    with pytest.raises(ValueError, match=r"in channel 'load' at time step 7.*Fill them in"):
        SlidingWindows(frame, 5, 2)


@pytest.mark.parametrize(
    ("values", "kwargs", "message"),
    [
        (SERIES[:6], {}, "6 time steps, fewer than the 7 of one window: 5 of context and 2 to forecast"),
        (SERIES[None], {}, r"shape \(time steps, channels\), not \(1, 20, 3\)"),
        (SERIES, {"stride": 0}, "stride must be at least 1"),
        (SERIES, {"univariate": True}, "one channel, not 3"),
        (SERIES, {"time_features": np.zeros((19, 2))}, r"must have the shape \(20, features\).*not \(19, 2\)"),
        (SERIES, {"time_features": np.full((20, 2), np.nan)}, "40 values that are NaN"),
        (pd.DataFrame({"a": ["x"] * 20}), {}, "not numeric: a"),
    ],
)
def test_what_makes_no_windows_is_refused(values: Any, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SlidingWindows(values, 5, 2, **kwargs)


# What each model takes

SMALL = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 1,
         "decoder_attention_heads": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}  # fmt: skip
LENGTHS = {"context_length": 8, "prediction_length": 4}


def model_of(kind: str, channels: int, features: int = 0) -> transformers.PreTrainedModel:
    if kind == "Koopa":
        settings = {"dynamic_dim": 4, "hidden_dim": 8, "num_blocks": 1, "mask_spectrum": [0]}
        return KoopaForPrediction(KoopaConfig(input_size=channels, **LENGTHS, **settings))
    config_class = getattr(transformers, f"{kind}Config")
    if kind == "PatchTST":
        config = config_class(num_input_channels=channels, patch_length=2, patch_stride=2, d_model=8, **LENGTHS,
                              num_hidden_layers=1, num_attention_heads=1, ffn_dim=8)  # fmt: skip
    elif kind == "PatchTSMixer":
        config = config_class(num_input_channels=channels, patch_length=2, patch_stride=2, d_model=8, **LENGTHS)
    else:
        lags = {"lags_sequence": [1, 2, 5], "num_time_features": features}
        label = {"label_length": 4} if kind == "Autoformer" else {}
        config = config_class(input_size=channels, **LENGTHS, **lags, **SMALL, **label)
    return getattr(transformers, f"{kind}ForPrediction")(config)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "kind", ["Koopa", "PatchTST", "PatchTSMixer", "TimeSeriesTransformer", "Informer", "Autoformer"]
)
def test_every_forecaster_takes_its_windows(kind: str, channels: int) -> None:
    torch.manual_seed(0)
    lagged = kind in ("TimeSeriesTransformer", "Informer", "Autoformer")
    series = np.random.default_rng(0).normal(size=(40, channels))
    times = pd.date_range("2024-01-01", periods=40, freq="h")
    for features in [None, calendar_features(times)] if lagged else [None]:
        model = model_of(kind, channels, 0 if features is None else 4)
        windows = windows_for(model.config, series, time_features=features)
        assert len(windows) == 40 - 12 - 5 * lagged + 1
        batch = next(iter(DataLoader(windows, batch_size=3)))
        loss = model(**batch).loss
        loss.backward()
        assert torch.isfinite(loss)


def test_a_model_that_cannot_take_the_series_says_so() -> None:
    koopa, lagged = model_of("Koopa", 2).config, model_of("Informer", 1, features=3).config
    for config, values, features, message in [
        (koopa, SERIES, None, "forecasts 2 channels, but the series has 3"),
        (koopa, SERIES[:, :2], np.zeros((20, 1)), "takes no time_features"),
        (lagged, SERIES[:, 0], None, "takes 3 time features .* but 0 are given"),
        (lagged, SERIES[:16, 0], np.zeros((16, 3)), "16 time steps, fewer than the 17 of one window: 13 of context"),
        (transformers.BertConfig(), SERIES, None, "type 'bert' are not known"),
        (transformers.PatchTSMixerConfig(num_input_channels=3, prediction_channel_indices=[0]), SERIES, None,
         "prediction_channel_indices"),
        (transformers.InformerConfig(prediction_length=4, num_static_real_features=1), SERIES[:, 0], None,
         "static features"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            windows_for(config, values, time_features=features)
