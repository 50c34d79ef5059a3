"""Inputs of a forecasting pipeline besides the values of a series: time stamps, and calendar features."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.utils import logging

from ..time_series import calendar_features
from ..time_series.timestamps import check_times, find_frequency, find_time_column, parse_times

__all__ = ["as_table", "horizon_times", "is_several", "time_features"]

_CALENDAR = 4  # features of `calendar_features`

logger = logging.get_logger(__name__)


def is_several(series: Any) -> bool:
    """Return whether this is a list or an array of series, rather than one series."""
    if isinstance(series, list | tuple):
        return bool(series) and (isinstance(series[0], pd.DataFrame | pd.Series) or np.ndim(series[0]) == 2)
    return np.ndim(series) == 3


def as_table(series: Any, dayfirst: bool | None = None) -> tuple[Any, pd.DatetimeIndex | None]:
    """
    Return the values of a series (as a DataFrame if its columns have names) and its time stamps, if it has any: from
    the index, or from a column that looks like time stamps, which is removed.

    Raises:
        InputError: a column that looks like time stamps cannot be read as such.
    """
    if isinstance(series, pd.Series):
        series = series.to_frame()
    if not isinstance(series, pd.DataFrame):
        return series, None
    frame = series.set_axis([str(name) for name in series.columns], axis=1)
    index = frame.index.to_timestamp() if isinstance(frame.index, pd.PeriodIndex) else frame.index
    if isinstance(index, pd.DatetimeIndex):
        return frame, index
    column = find_time_column(frame, None)
    if column is None:
        return frame, None
    return frame.drop(columns=column), parse_times(frame[column], dayfirst)


def horizon_times(past: pd.DatetimeIndex, horizon: int, trained_on: str | None) -> pd.DatetimeIndex | None:
    """
    Return the time stamps of the horizon, which follow those of the `past`; `None` if their frequency is not known.

    Args:
        trained_on: frequency of the series that the model was trained on, if known. If the series has
            another one there is a warning; where its time stamps are too few to show one, this one is used.

    Raises:
        InputError: the time stamps do not rise by equal steps.
    """
    check_times(past, "error")
    frequency = find_frequency(past) or trained_on
    if frequency is None:
        return None
    step = pd.tseries.frequencies.to_offset(frequency)
    if trained_on is not None and step != pd.tseries.frequencies.to_offset(trained_on):
        logger.warning(
            f"The time steps of the series are of frequency {frequency!r}, those that the model was trained on of "
            f"{trained_on!r}: the forecast is for steps of the series."
        )
    return pd.DatetimeIndex([past[-1] + i * step for i in range(1, horizon + 1)])


def time_features(
    config: PreTrainedConfig, past_values: Tensor, past: pd.DatetimeIndex | None, future: pd.DatetimeIndex | None
) -> dict[str, Tensor]:
    """
    Return the further inputs of a model that takes time features, those of `calendar_features` or none, for
    `past_values` (1, L, C). They include `past_values`, without the channels' dimension if there is a single channel.
    Return nothing for other models.

    Raises:
        ValueError: it takes other features, or the time stamps are not known.
    """
    if not hasattr(config, "lags_sequence"):
        return {}
    wanted = config.num_time_features + config.num_dynamic_real_features
    length, horizon = past_values.shape[1], config.prediction_length
    if wanted not in (0, _CALENDAR):
        raise ValueError(
            f"The model takes {wanted} time features, and a pipeline makes none or {_CALENDAR}, those of "
            "hf_scorevi.time_series.calendar_features. Give it to BayesianModel.forecast with its inputs."
        )
    features = np.zeros((length + horizon, 0))
    if wanted:
        if past is None or future is None:
            raise ValueError(
                "The model takes features of the calendar: give the series as a DataFrame with time stamps of equal "
                "steps as its index."
            )
        features = calendar_features(past.append(future))
    rows = torch.from_numpy(features.astype(np.float32))[None]
    values = past_values[..., 0] if config.input_size == 1 else past_values
    return {
        "past_values": values,
        "past_time_features": rows[:, :length],
        "future_time_features": rows[:, length:],
        "past_observed_mask": torch.ones_like(values),
    }
