"""Dates as people write them: read in the one way that they can be, or asked about."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hf_scorevi.errors import InputError
from hf_scorevi.time_series import read_table
from hf_scorevi.time_series.timestamps import find_time_column, parse_times


def texts(times: Any, form: str) -> pd.Series:
    return pd.Series([f"{time:{form}}" for time in times], name="when")


@pytest.mark.parametrize("form", ["%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%m-%d-%Y"])
@pytest.mark.parametrize("month", [1, 2])
def test_ten_days_are_not_ten_months_unless_somebody_says_so(form: str, month: int) -> None:
    times = pd.date_range(f"2024-{month}-01", periods=10)
    months = [pd.Timestamp(2024, own, month) for own in range(1, 11)]
    column = texts(times, form)
    with pytest.raises(InputError, match=r"'when' can be read in several ways.*day first.*month first.*with dayfirst"):
        parse_times(column)
    first = form.startswith("%d")
    assert list(parse_times(column, dayfirst=first)) == list(times)
    assert list(parse_times(column, dayfirst=not first)) == months
    frame = pd.DataFrame({"when": column, "load": np.arange(10.0)})
    assert read_table(frame, dayfirst=first).frequency == "D"
    with pytest.raises(InputError, match="with dayfirst"):
        read_table(frame)


@pytest.mark.parametrize(
    "form", ["%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%y", "%m/%d/%y", "%y-%m-%d", "%-d.%-m.%Y"]
)
@pytest.mark.parametrize(
    ("start", "frequency", "count"),
    [("2024-01-25", "D", 20), ("2024-01-10", "D", 20), ("2024-02-01", "h", 72), ("2023-01-01", "MS", 24)],
)
def test_a_day_after_the_twelfth_or_equal_steps_tell(form: str, start: str, frequency: str, count: int) -> None:
    times = pd.date_range(start, periods=count, freq=frequency)
    clock = " %H:%M" if frequency == "h" else ""
    column = texts(times, form + clock)
    assert list(parse_times(column)) == list(times)


@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%d-%b-%Y", "%B %d, %Y", "%d-%b-%y", "%Y-%m-%dT%H:%M:%S",
     "%Y-%m-%d %I:%M %p", "%Y-%m-%d %H:%M:%S+00:00"],
)  # fmt: skip
def test_the_year_first_or_a_month_by_name_needs_no_telling(form: str) -> None:
    times = pd.date_range("2024-01-01", periods=10)
    assert list(parse_times(texts(times, form))) == list(times)
    assert list(parse_times(texts(times, form), dayfirst=True)) == list(times)


@pytest.mark.parametrize("form", ["%d.%m.%Y, %H:%M", "%d/%m/%Y %I:%M %p", "%d.%m.%YT%H:%M:%S"])
def test_times_of_the_day_stand_behind_in_any_form(form: str) -> None:
    times = pd.date_range("2024-01-13 05:00", periods=30, freq="h")
    assert list(parse_times(texts(times, form))) == list(times)


def test_years_of_two_digits() -> None:
    assert parse_times(pd.Series(["30.01.95", "31.01.95"]))[0] == pd.Timestamp("1995-01-30")
    assert parse_times(pd.Series(["30.01.24", "31.01.24"]), dayfirst=True)[0] == pd.Timestamp("2024-01-30")
    with pytest.raises(InputError, match=r"30.01.24 may be 2024-01-30 \(day first\) or 2030-01-24 \(year first\)"):
        parse_times(pd.Series(["30.01.24", "31.01.24"]))
    with pytest.raises(InputError, match=r"01/02/03 may be 2003-02-01 .*2003-01-02 .*2001-02-03"):
        parse_times(pd.Series(["01/02/03"]))
    with pytest.raises(InputError, match=r"01/02/03 may be 2003-01-02 .*or 2001-02-03"):
        parse_times(pd.Series(["01/02/03"]), dayfirst=False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["13/01/2024", "01/14/2024"], "day first or the month first, one is no day of the calendar"),
        (["31.04.2024", "01.05.2024"], "no day of the calendar"),
        (["13/01/2024", "2024-01-14"], "row 0 has '13/01/2024'"),
        (["00:00", "01:00"], "row 0 has '00:00'"),
        (["1 May", "2 May"], "row 0 has '1 May'"),
        (["12 h", "13 h"], "row 0 has '12 h'"),
        (["2024-01-01", "soon"], "row 1 has 'soon'"),
        (["1,5", "2,5"], "row 0 has '1,5'"),
    ],
)
def test_what_is_no_date_is_named(values: list[str], message: str) -> None:
    with pytest.raises(InputError, match=f"holds something that is no date .*{message}"):
        parse_times(pd.Series(values, name="when"))


def test_numbers_and_words_are_no_column_of_dates() -> None:
    for values in (["1,5", "2,5"], ["12 h", "3 h"], ["3-4", "5-6"], ["1.234", "2.345"], ["May", "June"], [[1], [2]]):
        assert find_time_column(pd.DataFrame({"a": values}), None) is None
    for values in (["13.01.2024", "14.01.2024"], [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]):
        frame = pd.DataFrame({"a": ["1,5", "2,5"], "Datum": values})
        assert find_time_column(frame, None) == "Datum"
    assert parse_times(pd.Series([datetime.date(2024, 1, 1)]))[0] == pd.Timestamp("2024-01-01")


def test_clocks_that_were_put_back() -> None:
    local = [f"2024-10-27 0{hour}:00" for hour in (0, 1, 2, 2, 3)]
    with pytest.raises(InputError, match=r"comes twice: rows 2 and 3 .*where clocks were put back, give UTC"):
        read_table(pd.DataFrame({"date": local, "a": np.arange(5.0)}))
    aware = [f"2024-10-27T0{hour}:00+0{offset}:00" for hour, offset in ((0, 2), (1, 2), (2, 2), (2, 1), (3, 1))]
    assert read_table(pd.DataFrame({"date": aware, "a": np.arange(5.0)})).frequency == "h"
