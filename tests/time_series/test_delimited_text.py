"""Text files as programs and countries write them: right, or asked about by the name of an option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hf_scorevi.errors import InputError
from hf_scorevi.time_series import SeriesTable, read_table

TIMES = pd.date_range("2024-01-10", periods=60, freq="h")
LOADS = 1234.5 + np.arange(60) * 7 % 10 + np.arange(60) / 4


def read(folder: Path, text: str, name: str = "table.csv", **how: Any) -> SeriesTable:
    (folder / name).write_bytes(text.encode(how.pop("encoding", "utf-8")))
    return read_table(folder / name, **how)


def written(number: float, style: str) -> str:
    """1234.5, 1,234.5, 1.234,5 …"""
    text = f"{number:,.2f}" if len(style) > 1 else f"{number:.2f}"
    return text.translate({ord("."): style[-1], ord(","): style[0] if len(style) > 1 else ""})


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
@pytest.mark.parametrize("style", [".", ",", ",.", ".,", "'.", " ,"])
@pytest.mark.parametrize(
    "day", ["%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M", "%Y%m%d %H%M", "%d-%b-%y %H:%M"]
)
@pytest.mark.parametrize("header", [True, False])
def test_every_program_s_way_of_writing(tmp_path: Path, separator: str, style: str, day: str, header: bool) -> None:
    rows = [(f"{time:{day}}", written(load, style)) for time, load in zip(TIMES, LOADS, strict=True)]
    if separator == ",":
        rows = [(f'"{time}"', f'"{load}"') for time, load in rows]
    lines = [separator.join(row) for row in [("when", "load")] * header + rows]
    table = read(tmp_path, "\n".join(lines) + "\n")
    np.testing.assert_allclose(table.values[:, 0], LOADS.round(2), rtol=1e-12)
    assert table.times is not None and list(table.times) == list(TIMES) and table.frequency == "h"
    assert table.channels == (["load"] if header else ["1"])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a;b\n1.234.567;2\n3;4\n", [[1234567, 2], [3, 4]]),  # two groups can be no fraction
        ("a;b\n0.123;2\n3;4\n", [[0.123, 2], [3, 4]]),
        ("a;b\n1.234;0,5\n3;4\n", [[1234, 0.5], [3, 4]]),
        ("a;b\n1,234;0.5\n3;4\n", [[1234, 0.5], [3, 4]]),
        ("a,b\n1.234,2.345\n3.456,4\n", [[1.234, 2.345], [3.456, 4]]),  # commas stand between the columns
        ('a,b\n"1,5","2,25"\n3,4\n', [[1.5, 2.25], [3, 4]]),
        ("0,5;0,5\n1,5;2\n", [[0.5, 0.5], [1.5, 2]]),
        ("0.5,0.5\n1.5,2\n", [[0.5, 0.5], [1.5, 2]]),
        ("\ufeffa;b\n1,5;2\n", [[1.5, 2]]),
        ("sep=;\na;b\n1,5;2\n", [[1.5, 2]]),
        ("a;b\n1,5;2;\n3;4;\n", [[1.5, 2], [3, 4]]),
        ("a;b;\n1,5;2;\n3;4;\n", [[1.5, 2], [3, 4]]),
        ('"","a","b"\n"1",2.5,3\n"2",4,5\n', [[2.5, 3], [4, 5]]),
        ("a b\n 1.5  2e3\n 3 4\n", [[1.5, 2000], [3, 4]]),
        ("a, b\n1.5, 2\n", [[1.5, 2]]),
    ],
)
def test_by_hand(tmp_path: Path, text: str, values: list[list[float]]) -> None:
    np.testing.assert_array_equal(read(tmp_path, text).values, values)


@pytest.mark.parametrize(
    ("text", "options", "values"),
    [
        ("a;b\n1.234;2\n12.345;4\n", {"decimal": "."}, [[1.234, 2], [12.345, 4]]),
        ("a;b\n1.234;2\n12.345;4\n", {"decimal": ","}, [[1234, 2], [12345, 4]]),
        ('a,b\n"1,234",2\n', {"decimal": "."}, [[1234, 2]]),
        ('a,b\n"1,234",2\n', {"decimal": ","}, [[1.234, 2]]),
        ("a\n1,5\n2,5\n3\n", {"decimal": ","}, [[1.5], [2.5], [3]]),
        ("a\tb\n1,5\t2\n", {"separator": "tab"}, [[1.5, 2]]),
        ("a b\n1,5 2\n", {"separator": "space"}, [[1.5, 2]]),
        ("a#b\n1,5#2\n", {"separator": "#"}, [[1.5, 2]]),
    ],
)
def test_what_is_said_is_done(tmp_path: Path, text: str, options: dict[str, str], values: list[list[float]]) -> None:
    np.testing.assert_array_equal(read(tmp_path, text, **options).values, values)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a;b\n1.234;2\n12.345;4\n", {}, r"number 1.234 may be 1.234 or 1234, .*with decimal"),
        ('a,b\n"1,234",2\n', {}, r"number 1,234 may be 1.234 or 1234, .*with decimal"),
        ("a;b\n1,5;2.5\n", {}, "2.5 has a decimal point, 1,5 a decimal comma.*decimal"),
        ("a;b\n" + "1.5;2\n" * 1200 + "1,5;2\n", {}, "'a' is not numeric: row 1200 holds '1,5'.*decimal"),
        ("a;b\n1,5;2\n1.5;2\n", {"decimal": ","}, "'a' is not numeric: row 1 holds '1.5'"),
        ("a\n1,5\n2,5\n3\n", {}, "2 columns as separated by ',', and the first has 1.*separator.*decimal"),
        ("date,a\n2024-01-01,1,5\n2024-01-02,2,5\n", {}, "3 columns as separated by ',', and the first has 2"),
        ('"a" "b"\n"1" 2.5 3\n"2" 4 5\n', {}, "3 columns as separated by spaces, and the first has 2"),
        ("Load of 2024\na;b\n1,5;2\n", {}, "2 columns as separated by ';', and the first has 1.*have to go"),
        ("a;b\n1,5;2\n3;4;5\n", {}, "3 columns as separated by ';', and the first has 2: '3 4 5'"),
        ("a;b\n12 kW;2\n", {}, "'a' is not numeric: row 0 holds '12 kW'"),
        ("a;b\n12 %;2\n", {}, "'a' is not numeric: row 0 holds '12 %'"),
        ("a;b\n-;2\n", {}, "'a' is not numeric: row 0 holds '-'.*leave the cell empty"),
        ("a;größe\n1,5;2\n", {"encoding": "latin-1"}, "not in UTF-8"),
        ("a;b\n1;2\n", {"separator": ";;"}, "separator must be one character"),
        ("a;b\n1;2\n", {"decimal": ";"}, "decimal must be"),
        ("a;b\n1;2\n", {"separator": ","}, "'a;b' is not numeric: row 0 holds '1;2'"),
    ],
)
def test_what_can_be_read_in_two_ways_is_asked_about(
    tmp_path: Path, text: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, text, **options)


def test_a_file_as_the_electricity_board_writes_it(tmp_path: Path) -> None:
    lines = ["date;load"] + [f"{time:%Y-%m-%d %H:%M};{1234 + i},{7 * i % 10}" for i, time in enumerate(TIMES)]
    table = read(tmp_path, "\n".join(lines))
    assert table.channels == ["load"] and table.times is not None and list(table.times) == list(TIMES)
    assert table.values[:, 0].tolist() == [float(f"{1234 + i}.{7 * i % 10}") for i in range(60)]
