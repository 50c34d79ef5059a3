"""A series as windows of past and future, one after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedConfig

from ._values import refuse_non_finite, to_array, to_columns

__all__ = ["SlidingWindows", "past_length", "windows_for"]

# Heads that take lagged values, time features and a mask of what was observed.
_LAGGED = ("time_series_transformer", "informer", "autoformer")
_CHANNELS = {"koopa": "input_size", "patchtst": "num_input_channels", "patchtsmixer": "num_input_channels"}


class SlidingWindows(Dataset):
    """
    All windows of a series: `{"past_values": (L, C), "future_values": (H, C)}`, float32, views of one tensor.

    Neighbouring windows overlap, and are no independent data: the posterior of a model trained on them would be far
    too narrow if each window counted. `num_targets` counts each observed value that some window forecasts once;
    `ScoreVITrainer` uses it as the number of terms of the likelihood.

    Args:
        values: of the series, (T, C) or (T,), best standardised by channel (`SeriesProcessor`): array, tensor or
            DataFrame.
        context_length: L, time steps of the past; for a model that uses more than its own context length, all that it
            uses (`past_length`).
        prediction_length: H, time steps to forecast.
        stride: time steps from one window's start to the next's.
        time_features: known of each time step, past and future, (T, F), e.g. `calendar_features`; adds
            `past_time_features` (L, F), `future_time_features` (H, F) and `past_observed_mask`, all ones.
        univariate: return the single channel without its dimension: (L,) and (H,).

    Attributes:
        num_targets: distinct values (time step and channel) among the windows' futures.

    Raises:
        ValueError: a series shorter than L + H, or with values that are NaN or infinite; another shape; time features
            of another length.
    """

    def __init__(
        self,
        values: Any,
        context_length: int,
        prediction_length: int,
        *,
        stride: int = 1,
        time_features: Any = None,
        univariate: bool = False,
    ) -> None:
        for name, size in (
            ("context_length", context_length),
            ("prediction_length", prediction_length),
            ("stride", stride),
        ):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, not {size}.")
        array, channels = to_columns(values)
        if len(array) < context_length + prediction_length:
            raise ValueError(
                f"The series has {len(array)} time steps, fewer than the {context_length + prediction_length} of one "
                f"window: {context_length} of context and {prediction_length} to forecast. Give a longer series, or "
                "shorten context_length or prediction_length."
            )
        if univariate and array.shape[1] != 1:
            raise ValueError(f"A univariate window has one channel, not {array.shape[1]}: choose one of them.")
        self.values = _float32(array, channels)
        if univariate:
            self.values = self.values[:, 0]
        self.context_length, self.prediction_length, self.stride = context_length, prediction_length, stride
        self.time_features: Tensor | None = None
        if time_features is not None:
            features, names = to_array(time_features)
            if features.ndim != 2 or len(features) != len(array):
                raise ValueError(
                    f"time_features must have the shape ({len(array)}, features), one row for each time step of the "
                    f"series, not {features.shape}."
                )
            self.time_features = _float32(features, names)

    @property
    def num_targets(self) -> int:
        """Number of distinct values among the windows' futures."""
        new = min(self.stride, self.prediction_length)  # time steps that a window forecasts and those before did not
        return ((len(self) - 1) * new + self.prediction_length) * self.values[0].numel()

    def __len__(self) -> int:
        return (len(self.values) - self.context_length - self.prediction_length) // self.stride + 1

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"There are {len(self)} windows, and none of number {i}.")
        start = i % len(self) * self.stride
        middle = start + self.context_length
        end = middle + self.prediction_length
        window = {"past_values": self.values[start:middle], "future_values": self.values[middle:end]}
        if self.time_features is not None:
            window["past_time_features"] = self.time_features[start:middle]
            window["future_time_features"] = self.time_features[middle:end]
            window["past_observed_mask"] = torch.ones_like(window["past_values"])
        return window


def _float32(array: np.ndarray, names: list[str] | None) -> Tensor:
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)  # too large a value becomes infinite, and is refused as such
    refuse_non_finite(array, names)
    return torch.from_numpy(array)


def windows_for(
    config: PreTrainedConfig, values: Any, *, stride: int = 1, time_features: Any = None
) -> SlidingWindows:
    """
    Return the windows of `values` that a model of this configuration is trained on.

    Koopa, PatchTST and PatchTSMixer take past and future values. TimeSeriesTransformer, Informer and Autoformer take
    a past that is longer by their largest lag, time features, and a single channel without its dimension.

    Args:
        config: of the model.
        values: of the series, (T, C) or (T,).
        stride: time steps from one window's start to the next's.
        time_features: (T, F) for a model of the second kind, F its `num_time_features` + `num_dynamic_real_features`;
            may be left out where that is 0.

    Raises:
        ValueError: a model of another kind, or with inputs that are no series; another number of channels or
            features; or values that `SlidingWindows` refuses.
    """
    kind = config.model_type
    shape = np.shape(values)
    channels = 1 if len(shape) == 1 else shape[-1]
    if kind not in (*_LAGGED, *_CHANNELS):
        known = ", ".join([*_CHANNELS, *_LAGGED])
        raise ValueError(f"The inputs of a model of type {kind!r} are not known here; known are {known}.")
    expected = getattr(config, _CHANNELS.get(kind, "input_size"))
    if channels != expected:
        raise ValueError(f"The model forecasts {expected} channels, but the series has {channels}.")
    if getattr(config, "prediction_channel_indices", None) is not None:
        raise ValueError(
            "The model forecasts some of its channels alone (prediction_channel_indices), which is not supported: set "
            "it to None, or choose the channels of the series."
        )
    lengths = {"context_length": past_length(config), "prediction_length": config.prediction_length, "stride": stride}
    if kind in _CHANNELS:
        if time_features is not None:
            raise ValueError(f"A model of type {kind!r} takes no time_features: leave them out.")
        return SlidingWindows(values, **lengths)
    if config.num_static_categorical_features or config.num_static_real_features:
        raise ValueError(
            "The model takes static features, which are not supported: set num_static_categorical_features and "
            "num_static_real_features to 0."
        )
    wanted = config.num_time_features + config.num_dynamic_real_features
    if time_features is None and not wanted:
        time_features = np.zeros((shape[0], 0))
    given = 0 if time_features is None else np.shape(time_features)[-1]
    if given != wanted:
        raise ValueError(
            f"The model takes {wanted} time features (num_time_features + num_dynamic_real_features) of each time "
            f"step, but {given} are given as time_features."
        )
    return SlidingWindows(values, **lengths, time_features=time_features, univariate=expected == 1)


def past_length(config: PreTrainedConfig) -> int:
    """Return the number of past time steps that a model of this configuration uses: its context and largest lag."""
    lag = max(config.lags_sequence) if config.model_type in _LAGGED else 0
    return int(config.context_length + lag)
