"""The time stamps of a table: their column, whether they rise by equal steps, and the frequency."""

from __future__ import annotations

import datetime
import re
import warnings
from contextlib import suppress

import numpy as np
import pandas as pd
from transformers.utils import logging

from ..errors import InputError

__all__ = ["check_times", "find_frequency", "find_time_column", "is_date", "parse_times"]

logger = logging.get_logger(__name__)

_NAMES = ("date", "time", "timestamp", "datetime", "ds")
# Dates that can be read in one way, the time of the day behind them left aside: the year first, or the month by name.
_MONTHS = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_CLEAR = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}([t\s,z+].*)?"
    r"|\d{4}[-/]\d{2}|\d{4}-?q[1-4]|\d{8}([t ]?\d{4}(\d{2})?)?"
    rf"|(?=.*\b\d{{4}}\b).*\b{_MONTHS}\b.*|\d{{1,2}}[-/. ]{_MONTHS}[-/. ]\d{{2}}(?!\d).*",
    re.IGNORECASE,
)
# And those with the day or the month first, or a year of two digits.
_SHORT = r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d{2})((?:[tT\s,].*)?)"
_ORDERS = {"day first": (2, 1, 0), "month first": (2, 0, 1), "year first": (0, 1, 2)}  # where year, month and day are


def find_time_column(frame: pd.DataFrame, name: str | None) -> str | None:
    """
    Return the column of `frame` that holds the time stamps: `name` if given; `None` if no column looks like it.

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


def is_date(text: str) -> bool:
    """Return whether this looks like a date, with or without a time of the day. A time alone is none."""
    text = text.strip()
    return bool(_CLEAR.fullmatch(text) or re.fullmatch(_SHORT, text))


def _looks_like_dates(values: pd.Series) -> bool:
    found = [isinstance(value, str | datetime.date) and is_date(str(value)) for value in values.head(100)]
    return bool(found) and all(found)


def _to_datetime(values: pd.Series) -> pd.DatetimeIndex:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a format that is not pandas' own; there is one way to read it
        return pd.DatetimeIndex(pd.to_datetime(values, utc=True)).tz_localize(None)


def parse_times(column: pd.Series, dayfirst: bool | None = None) -> pd.DatetimeIndex:
    """
    Read the time stamps in a column, in UTC.

    Args:
        dayfirst: whether 02.01.2024 is the second of January; default: found from the other dates or from equal steps.

    Raises:
        InputError: it holds numbers, or something else that is no date, or is empty somewhere; or nothing shows
            whether the day comes first.
    """
    if pd.api.types.is_numeric_dtype(column):
        raise InputError(
            f"The time column {column.name!r} holds numbers. Give dates such as 2016-07-01 00:00, name another time "
            "column, or rename it if it is a channel."
        )
    try:
        times = _to_datetime(column) if pd.api.types.is_datetime64_any_dtype(column) else _parsed(column, dayfirst)
    except InputError:
        raise
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


def _parsed(column: pd.Series, dayfirst: bool | None) -> pd.DatetimeIndex:
    """Read dates from text, in the only possible way."""
    texts = column.astype("str").str.strip().where(column.notna())
    given = texts.dropna()
    clear = given.str.fullmatch(_CLEAR.pattern, case=False).astype(bool)
    short = given.str.fullmatch(_SHORT).astype(bool)
    if short.all() and len(given):
        return _in_order(texts, dayfirst)
    if not clear.all():
        odd = given[~clear & ~short] if (~clear & ~short).any() else given[~clear]
        raise ValueError(f"row {odd.index[0]} has {odd.iloc[0][:40]!r}")
    return _to_datetime(texts)


def _in_order(texts: pd.Series, dayfirst: bool | None) -> pd.DatetimeIndex:
    """Read dates with the day or the month first, or the year with two digits."""
    parts = texts.str.extract(_SHORT)
    numbers = [pd.to_numeric(parts[i]) for i in (0, 2, 3)]
    orders = dict(_ORDERS)
    if (parts[3].str.len() == 4).any():
        del orders["year first"]
    if dayfirst is not None:
        orders = {own: order for own, order in orders.items() if (own == "day first") == dayfirst}
    readings: dict[str, pd.DatetimeIndex] = {}
    for own, order in orders.items():
        year, month, day = (numbers[i] for i in order)
        if month.max() <= 12 and day.max() <= 31:
            year = year.where(year > 99, year + np.where(year < 69, 2000, 1900))
            dates = year.astype("Int64").astype("str") + "-"
            dates += month.astype("Int64").astype("str").str.zfill(2) + "-"
            dates += day.astype("Int64").astype("str").str.zfill(2)
            with suppress(ValueError, TypeError):  # there is no 31st of April
                readings[own] = _to_datetime((dates + parts[4]).where(texts.notna()))
    if not readings:
        raise ValueError(f"read with the {' or the '.join(orders)}, one is no day of the calendar")
    return _only(readings, texts)


def _is_even(times: pd.DatetimeIndex) -> bool:
    """Return whether these rise by equal steps, or are the same day of each month."""
    if len(times) < 3 or times.hasnans:
        return False
    one_day = (times.day == times[0].day).all() and times.month.nunique() > 1 and times.normalize().is_unique
    return bool(one_day and times.is_monotonic_increasing) or _irregularity(times) is None


def _only(readings: dict[str, pd.DatetimeIndex], texts: pd.Series) -> pd.DatetimeIndex:
    """Return the only reading of the dates, or the only one in which they rise by equal steps."""
    left: dict[str, pd.DatetimeIndex] = {}
    for own, times in readings.items():
        if not any(times.equals(other) for other in left.values()):
            left[own] = times
    if len(left) > 1:
        even = {own: times for own, times in left.items() if _is_even(times)}
        left = even if len(even) == 1 else left
    if len(left) == 1:
        return next(iter(left.values()))
    row = next(i for i in range(len(texts)) if len({times[i] for times in left.values()}) > 1)
    ways = " or ".join(f"{times[row]:%Y-%m-%d} ({own})" for own, times in left.items())
    raise InputError(
        f"The time column {texts.name!r} can be read in several ways: {texts.iloc[row]} may be {ways}. Say "
        "which with dayfirst (True or False), or give dates such as 2016-07-01."
    )


def check_times(times: pd.DatetimeIndex, irregular: str) -> None:
    """
    Refuse time stamps that do not rise by equal steps, or warn of them; months, quarters and years count as equal.

    Args:
        irregular: `"error"`, or `"warn"`.

    Raises:
        InputError: they do not rise by equal steps, and `irregular` is `"error"`.
    """
    problem = _irregularity(times)
    if problem is None:
        return
    if irregular == "error":
        raise InputError(f"{problem} To take the rows as they come for equally spaced, set irregular to 'warn'.")
    logger.warning(f"{problem} The rows are taken as they come, for equally spaced.")


def _irregularity(times: pd.DatetimeIndex) -> str | None:
    """Return a sentence with the problem and the remedy, or `None` for regular time stamps."""
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
            "each, or its mean; of several series in one table choose one; where clocks were put back, give UTC."
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
    """Return the frequency of the time stamps as pandas writes it, of the commonest step if they are irregular."""
    if len(times) < 3:
        return None
    known = _regular_step(times)
    if known is not None:
        return known
    usual = _usual_step(times)
    return pd.tseries.frequencies.to_offset(usual).freqstr if usual > pd.Timedelta(0) else None


def _regular_step(times: pd.DatetimeIndex) -> str | None:
    return pd.DatetimeIndex(times, freq="infer").freqstr  # None where there is none
