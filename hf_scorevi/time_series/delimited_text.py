"""Tables in text files: the separator of the columns, the decimal sign, and whether the first line has names."""

from __future__ import annotations

import csv
import re
from typing import Any

import pandas as pd

from ..errors import InputError
from .numbers_in_text import find_decimal, is_number
from .timestamps import find_time_column, is_date

__all__ = ["read_text"]

_SEPARATORS = (";", "\t", "|", ",")
_SPACES = r"\s+"
_NAMED = {"tab": "\t", r"\t": "\t", "space": _SPACES, " ": _SPACES}
_HEAD = 1000  # lines that are looked at


def read_text(
    file: str, separator: str | None, decimal: str | None, time_column: str | None
) -> tuple[pd.DataFrame, str | None]:
    """
    Read a table, and return with it the decimal sign of numbers that are still text.

    Raises:
        InputError: rows of another length than the first line, or numbers that may be read in two ways.
        ValueError, OSError: it cannot be read.
    """
    lines = _head(file)
    skipped = 0
    if lines and (told := re.fullmatch(r"sep=(.)", lines[0].strip("\r\n"))):  # which Excel writes
        separator, skipped, lines = separator or told[1], 1, lines[1:]
    if not any(line.strip() for line in lines):
        raise ValueError("it is empty")
    if separator is None:
        separator = _find_separator(lines, decimal)
    elif separator in _NAMED:
        separator = _NAMED[separator]
    elif len(separator) != 1:
        raise InputError(f"separator must be one character, or tab or space, not {separator!r}.")
    rows = [row for line in lines if (row := _fields(line, separator))]
    names = None if _is_data(rows[0]) else _names(rows)
    longest = max(rows, key=len)
    if len(longest) > len(names or rows[0]):
        _refuse_lengths(rows, longest, separator)
    how: dict[str, Any] = {"sep": separator, "skiprows": skipped, "skipinitialspace": True}
    how |= {"header": None} if names is None else {"header": 0, "names": names}
    body = rows if names is None else rows[1:]
    if decimal is None:
        decimal = _find_decimal(body, names, separator, time_column)
    # A comma that is quoted: pandas would take what has none for numbers with a decimal point.
    as_text = {"dtype": "str"} if decimal == "," == separator else {"decimal": decimal}
    frame = pd.read_csv(file, low_memory=False, **how, **as_text)
    return _without_marginal(frame), decimal


def _head(file: str) -> list[str]:
    """Return the first lines as they are."""
    try:
        column = pd.read_csv(
            file, sep="\x01", header=None, quoting=csv.QUOTE_NONE, dtype="str", nrows=_HEAD, keep_default_na=False,
            encoding="utf-8-sig",
        )  # fmt: skip
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not in UTF-8: save it in that encoding; {error}") from error
    return column[0].tolist()


def _fields(line: str, separator: str) -> list[str]:
    """Return the fields of a line; none of an empty one."""
    if separator == _SPACES:
        line, separator = " ".join(line.split()), " "
    return (
        [field.strip() for field in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]
        if line.strip()
        else []
    )


def _find_separator(lines: list[str], decimal: str | None) -> str:
    """Return the first of the separators that all lines have, or most."""
    lines = [line for line in lines if line.strip()]
    for share in (1.0, 0.5):
        for separator in _SEPARATORS:
            if separator == "," == decimal and share < 1:
                continue
            if sum(len(_fields(line, separator)) > 1 for line in lines) >= max(share * len(lines), 1):
                return separator
    if all(len(line.split()) > 1 for line in lines):
        return _SPACES
    return ";" if decimal == "," else ","  # of which there is none


def _is_data(fields: list[str]) -> bool:
    """Return whether the first line is one of the table's rows, and not the names of its columns."""
    if fields == [str(i) for i in range(len(fields))]:  # what pandas writes for columns without names
        return False
    return any(map(is_number, fields)) and all(is_number(field) or is_date(field) for field in fields)


def _names(rows: list[list[str]]) -> list[str]:
    """Return the names of the columns, one more than in the first line if all others end with a separator."""
    names, count = rows[0], len(rows[0]) + 1
    if len(rows) > 1 and all(len(row) == count and not row[-1] for row in rows[1:]):
        names = [*names, ""]
    found: list[str] = []
    for i, name in enumerate(names):
        own = name or f"Unnamed: {i}"
        while own in found:
            own += ".1"
        found.append(own)
    return found


def _find_decimal(rows: list[list[str]], names: list[str] | None, separator: str, time_column: str | None) -> str:
    """Return the decimal sign of all columns that hold nothing but numbers."""
    if separator == "," and not any("," in field for row in rows for field in row):
        return "."
    frame = pd.DataFrame(rows, dtype="str")
    if names is not None and len(names) >= frame.shape[1]:
        frame = frame.set_axis(names[: frame.shape[1]], axis=1)
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    times = time_column if time_column in frame.columns else find_time_column(frame, None)
    columns = [frame[name].dropna() for name in frame.columns if name != times]
    cells = [column[column != ""] for column in columns]
    return find_decimal(cell for column in cells if column.map(is_number).all() for cell in column)


def _refuse_lengths(rows: list[list[str]], longest: list[str], separator: str) -> None:
    sign = {"\t": "tabs", _SPACES: "spaces"}.get(separator, repr(separator))
    raise InputError(
        f"Rows have {len(longest)} columns as separated by {sign}, and the first has {len(rows[0])}: "
        f"{' '.join(longest)[:60]!r}. If the separator is another one, say which with separator; if commas are "
        "decimal ones, say so with decimal (','). Lines above that with the names have to go, and every column "
        "needs a name."
    )


def _without_marginal(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop columns without a name that are empty, and a first one that numbers the rows from 0 or 1."""
    empty = [name for name in frame.columns if str(name).startswith("Unnamed: ") and frame[name].isna().all()]
    frame = frame.drop(columns=empty)
    first = frame.columns[0] if len(frame.columns) else None
    if first == "Unnamed: 0":
        numbers = frame[first].tolist()
        if numbers in (list(range(len(frame))), list(range(1, len(frame) + 1))):
            return frame.drop(columns=first)
    return frame
