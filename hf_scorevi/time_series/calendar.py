"""Features of time steps from the calendar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["calendar_features"]


def calendar_features(times: Any) -> np.ndarray:
    """
    Return time of day, day of the week, day of the month and day of the year, each scaled to [−0.5, 0.5], (T, 4).

    Args:
        times: time stamps, (T,), of any type that `pandas.DatetimeIndex` takes.

    Source: the features of GluonTS's `time_features_from_frequency_str`, the same four at every frequency: one that
    does not change, such as the time of day of daily data, is harmless.
    """
    stamps = pd.DatetimeIndex(times)
    day = (stamps - stamps.normalize()) / pd.Timedelta(days=1)
    columns = [day, stamps.day_of_week / 6, (stamps.day - 1) / 30, (stamps.day_of_year - 1) / 365]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1) - 0.5
