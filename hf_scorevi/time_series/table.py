"""A series from a table: one row a time step, one column a channel, perhaps a column of time stamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import InputError
from .delimited_text import read_text
from .numbers_in_text import find_decimal, is_number, to_numbers
from .timestamps import check_times, find_frequency, find_time_column, parse_times

__all__ = ["SUFFIXES", "SeriesTable", "read_table"]

# Of tables in files.
SUFFIXES = (".csv", ".csv.gz", ".txt", ".txt.gz", ".parquet")
_MISSING = ("error", "ffill", "interpolate")


@dataclass(frozen=True)
class SeriesTable:
    """
    A series of T time steps and C channels.

    Attributes:
        values: (T, C) float64, finite.
        channels: names of the columns, C of them.
        times: time stamps (T,), in UTC if the table's have a time zone; None if it has none.
        frequency: of the time stamps as pandas writes it ("h", "10min", "D"), if known.
    """

    values: np.ndarray
    channels: list[str]
    times: pd.DatetimeIndex | None
    frequency: str | None


def read_table(
    source: Any,
    *,
    channels: Sequence[str] | None = None,
    time_column: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    dayfirst: bool | None = None,
    missing: str = "error",
    irregular: str = "error",
) -> SeriesTable:
    """
    Read a series from a table.

    Args:
        source: a file (.csv, .txt, both perhaps .gz, or .parquet), a DataFrame, or a `datasets.Dataset`. A first line
            of nothing but numbers is taken for data, and the channels are called "0", "1", …; a first column without
            a name that numbers the rows from 0 or 1, as pandas and R write it, is left out.
        channels: columns to take, in this order; default: all but the time stamps.
        time_column: column of the time stamps; default: the index if it holds dates, else the first column that does,
            or that is called date, time, timestamp, datetime or ds.
        separator: of the columns in a text file, one character, or "tab" or "space"; default: the first of `;`, tab,
            `|` and `,` that the lines have, or else spaces.
        decimal: "." or ","; default: found from the numbers, 1234.5 or 1,234.5 against 1234,5 or 1.234,5.
        dayfirst: whether the date 02.01.2024 is the second of January; default: found from other dates, such as
            13.01.2024, or because the time stamps rise by equal steps in only one of the two ways. Not needed for
            dates with the year first, or with the month by name.
        missing: treatment of missing values: `"error"`; `"ffill"`, take the last value before; `"interpolate"`, a
            straight line between the neighbours, which uses the future, across splits too.
        irregular: treatment of time stamps that do not rise by equal steps (one twice, one earlier than the one
            before it, a gap): `"error"`, or `"warn"` and take the rows as equally spaced.

    Raises:
        InputError: a file that is missing or cannot be read, no such column, one that is not numeric, values that are
            missing or infinite, irregular time stamps, or numbers and dates that can be read in two ways; the message
            has the place and the remedy.
    """
    if missing not in _MISSING:
        raise InputError(f"missing must be one of {', '.join(_MISSING)}, not {missing!r}.")
    if irregular not in ("error", "warn"):
        raise InputError(f"irregular must be 'error' or 'warn', not {irregular!r}.")
    if decimal not in (None, ".", ","):
        raise InputError(f"decimal must be '.' or ',', not {decimal!r}.")
    frame, decimal = _read_frame(source, separator, decimal, time_column)
    if frame.empty:
        raise InputError("The table has no rows or no columns.")
    time_column = find_time_column(frame, time_column)
    times = None if time_column is None else parse_times(frame[time_column], dayfirst)
    if times is not None:
        check_times(times, irregular)
    frequency = None if times is None else find_frequency(times)
    chosen = [str(name) for name in frame.columns if name != time_column] if channels is None else list(channels)
    unknown = [name for name in chosen if name not in frame.columns]
    if unknown or not chosen:
        what = f"no column {unknown[0]!r}" if unknown else "no channels"
        raise InputError(f"The table has {what}; its columns are {', '.join(frame.columns)}.")
    if len(set(chosen)) < len(chosen) or time_column in chosen:
        raise InputError(f"The channels must be different columns, and not the time stamps: {', '.join(chosen)}.")
    return SeriesTable(_filled(_numeric(frame[chosen], decimal), missing), chosen, times, frequency)


def _read_frame(
    source: Any, separator: str | None, decimal: str | None, time_column: str | None
) -> tuple[pd.DataFrame, str | None]:
    """Return the table, and the decimal sign of numbers that are still text, if it is known."""
    if isinstance(source, str | Path):
        frame, decimal = _read_file(str(source), separator, decimal, time_column)
    elif isinstance(source, pd.DataFrame):
        frame = source
    elif hasattr(source, "to_pandas"):
        frame = source.to_pandas()
    else:
        raise InputError(f"A table is a file, a DataFrame or a datasets.Dataset, not {type(source).__name__}.")
    if isinstance(frame.index, pd.PeriodIndex):
        frame = frame.set_axis(frame.index.to_timestamp())
    if isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.rename_axis(frame.index.name or "date").reset_index()
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise InputError(f"The table has two columns {twice!r}: rename one of them.")
    return frame, decimal


def _read_file(
    file: str, separator: str | None, decimal: str | None, time_column: str | None
) -> tuple[pd.DataFrame, str | None]:
    if not file.endswith(SUFFIXES):
        raise InputError(f"{file!r} is of an unknown kind; give a file that ends in {', '.join(SUFFIXES)}.")
    if "://" not in file and not Path(file).is_file():
        raise InputError(f"There is no file {file!r}.")
    try:
        if file.endswith(".parquet"):
            return pd.read_parquet(file), decimal
        return read_text(file, separator, decimal, time_column)
    except InputError:
        raise
    except (OSError, ValueError, pd.errors.ParserError) as error:
        raise InputError(
            f"{file!r} cannot be read as a table ({' '.join(str(error).split()).rstrip('.')})."
        ) from error


def _numeric(frame: pd.DataFrame, decimal: str | None) -> pd.DataFrame:
    """Convert a table to float64; empty cells become NaN."""
    for name, column in frame.items():
        if pd.api.types.is_datetime64_any_dtype(column):
            raise InputError(
                f"The column {name!r} holds dates; name it as the time column, or name the channels without it."
            )
    texts = {name: column[column.map(lambda value: isinstance(value, str))] for name, column in frame.items()
             if not pd.api.types.is_numeric_dtype(column)}  # fmt: skip
    if decimal is None:
        decimal = find_decimal(cell for own in texts.values() if own.map(is_number).all() for cell in own)
    return pd.DataFrame({name: _numbers(column, texts.get(name), decimal) for name, column in frame.items()})


def _numbers(column: pd.Series, texts: pd.Series | None, decimal: str) -> pd.Series:
    if texts is None:
        return column.astype("float64")
    numbers = pd.to_numeric(column.drop(texts.index), errors="coerce").astype("float64").reindex(column.index)
    numbers[texts.index] = to_numbers(texts, decimal)
    words = column[numbers.isna() & column.notna()]
    words = words[words.astype(str).str.strip().str.lower() != "nan"]  # which is a number to pandas, too
    if len(words):
        if isinstance(words.iloc[0], list | np.ndarray):
            raise InputError(
                f"The column {column.name!r} holds lists. A row is one time step here, not a whole series: give a "
                "table with a column for each channel."
            )
        word = str(words.iloc[0])[:40]
        other = (
            "" if not is_number(word) else f"; or say which sign is the decimal one, here {decimal!r}, with decimal"
        )
        raise InputError(
            f"The column {column.name!r} is not numeric: row {words.index[0]} holds {word!r}. Name the channels to "
            f"take without it, or leave the cell empty if the value is missing{other}."
        )
    return numbers


def _filled(frame: pd.DataFrame, missing: str) -> np.ndarray:
    infinite = np.isinf(frame.to_numpy())
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise InputError(
            f"The column {frame.columns[column]!r} is infinite in row {row}, {int(infinite.sum())} values in all. "
            "Leave the cell empty if the value is missing, or the channel out."
        )
    if missing == "ffill":
        frame = frame.ffill()
    elif missing == "interpolate":
        frame = frame.interpolate(limit_area="inside")
    empty = frame.isna()
    if empty.to_numpy().any():
        counts = empty.sum()
        which = ", ".join(f"{name} ({count})" for name, count in counts[counts > 0].items())
        row, column = np.argwhere(empty.to_numpy())[0]
        remedy = "fill them with the last value (missing 'ffill') or a straight line (missing 'interpolate')"
        if missing != "error":
            remedy = f"missing={missing!r} cannot fill these, which have no value " + (
                "before them: take the rows after them" if missing == "ffill" else "on one side: cut these rows off"
            )
        raise InputError(
            f"Values are missing in {which}; the first in row {row}, column {frame.columns[column]!r}. Either leave "
            f"out the channels, or {remedy}."
        )
    return frame.to_numpy(dtype=np.float64)
