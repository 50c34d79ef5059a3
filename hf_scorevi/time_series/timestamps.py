"""The time stamps of a table: which column, whether they rise by equal steps, and by which."""

from __future__ import annotations

import warnings

import pandas as pd
from transformers.utils import logging

from ..errors import InputError

__all__ = ["check_times", "find_frequency", "find_time_column", "parse_times"]

logger = logging.get_logger(__name__)

_NAMES = ("date", "time", "timestamp", "datetime", "ds")


def find_time_column(frame: pd.DataFrame, name: str | None) -> str | None:
    """
    The column of `frame` that holds the time stamps, `name` if it is given, and None if no column looks like it.

    Raises:
        InputError: there is no column `name`.
    """
    if name is not None:
        if name not in frame.columns:
            raise InputError(f"The table has no column {name!r}; its columns are {', '.join(frame.columns)}.")
        return name
    for column in frame.columns:
        if pd.api.types.is_datetime64_any_dtype(frame[column]) or column.lower() in _NAMES:
            return column
    for column in frame.columns:
        values = frame[column]
        if not pd.api.types.is_numeric_dtype(values) and _looks_like_dates(values):
            return column
    return None


def _looks_like_dates(values: pd.Series) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that words have no format of dates
        try:
            return bool(_to_datetime(values.head(100)).notna().all())
        except (ValueError, TypeError):
            return False


def _to_datetime(values: pd.Series) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(pd.to_datetime(values, utc=True)).tz_localize(None)


def parse_times(column: pd.Series) -> pd.DatetimeIndex:
    """
    The time stamps in a column, in UTC.

    Raises:
        InputError: it holds numbers, or something else that is no date, or is empty somewhere.
    """
    if pd.api.types.is_numeric_dtype(column):
        raise InputError(
            f"The time column {column.name!r} holds numbers. Give dates such as 2016-07-01 00:00, name another time "
            "column, or rename it if it is a channel."
        )
    try:
        times = _to_datetime(column)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"The time column {column.name!r} holds something that is no date ({str(error).splitlines()[0]}). Give "
            "dates such as 2016-07-01 00:00, all in one format, or name another time column."
        ) from error
    if times.hasnans:
        raise InputError(
            f"The time column {column.name!r} is empty in row {int(times.isna().argmax())}. Fill it in, or leave out "
            "the row if others are whole."
        )
    return times


def check_times(times: pd.DatetimeIndex, irregular: str) -> None:
    """
    Time stamps have to rise by equal steps; months, quarters and years count as equal.

    Args:
        irregular: `"error"`, or `"warn"`.

    Raises:
        InputError: they do not.
    """
    problem = _irregularity(times)
    if problem is None:
        return
    if irregular == "error":
        raise InputError(f"{problem} To take the rows as they come for equally spaced, set irregular to 'warn'.")
    logger.warning(f"{problem} The rows are taken as they come, for equally spaced.")


def _irregularity(times: pd.DatetimeIndex) -> str | None:
    """What is wrong, and how to mend it."""
    if len(times) < 3:
        return None
    steps = times[1:] - times[:-1]
    earlier = (steps < pd.Timedelta(0)).nonzero()[0]
    if len(earlier):
        i = earlier[0] + 1
        return (
            f"The time stamps do not rise: row {i} ({times[i]}) is earlier than row {i - 1} ({times[i - 1]}), "
            f"{len(earlier)} such rows in all. Sort the table by time, or say which format the dates have by writing "
            "them as 2016-07-01."
        )
    twice = (steps == pd.Timedelta(0)).nonzero()[0]
    if len(twice):
        i = twice[0] + 1
        return (
            f"A time stamp comes twice: rows {i - 1} and {i} ({times[i]}), {len(twice)} such rows in all. Keep one of "
            "each, or its mean; of several series in one table choose one."
        )
    if _regular_step(times) is not None:
        return None
    usual = _usual_step(times)
    i = abs(steps - usual).argmax() + 1  # the worst one: in months with a gap the first odd one is a February
    return (
        f"The time stamps have gaps, or steps of different length: from row {i - 1} ({times[i - 1]}) to row {i} "
        f"({times[i]}) it is {steps[i - 1]}, usually {usual}. Bring the table to equal steps (pandas' "
        "DataFrame.asfreq), and fill in what is missing."
    )


def _usual_step(times: pd.DatetimeIndex) -> pd.Timedelta:
    return (times[1:] - times[:-1]).to_series().mode().iloc[0]


def find_frequency(times: pd.DatetimeIndex) -> str | None:
    """The frequency of the time stamps as pandas writes it, of their commonest step if they are irregular."""
    if len(times) < 3:
        return None
    known = _regular_step(times)
    if known is not None:
        return known
    usual = _usual_step(times)
    return pd.tseries.frequencies.to_offset(usual).freqstr if usual > pd.Timedelta(0) else None


def _regular_step(times: pd.DatetimeIndex) -> str | None:
    return pd.DatetimeIndex(times, freq="infer").freqstr  # None where there is none
