"""Tables in all their forms, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset

from hf_scorevi.errors import InputError
from hf_scorevi.time_series import SeriesTable, read_table

TIMES = pd.date_range("2024-01-01", periods=12, freq="h")
VALUES = np.random.default_rng(0).normal(size=(12, 2)).round(3)
FRAME = pd.DataFrame({"date": TIMES, "load": VALUES[:, 0], "OT": VALUES[:, 1]})


def assert_is_frame(table: SeriesTable) -> None:
    np.testing.assert_allclose(table.values, VALUES, rtol=1e-12)
    assert table.values.dtype == np.float64
    assert table.channels == ["load", "OT"] and table.frequency == "h"
    assert table.times is not None and list(table.times) == list(TIMES)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".txt", ".parquet"])
def test_files_of_every_kind(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"series{suffix}"
    if suffix == ".parquet":
        FRAME.to_parquet(file)
    else:
        FRAME.to_csv(file, index=False)
    assert_is_frame(read_table(file))
    assert_is_frame(read_table(str(file)))


def test_frames_and_datasets() -> None:
    assert_is_frame(read_table(FRAME))
    assert_is_frame(read_table(Dataset.from_pandas(FRAME)))
    assert_is_frame(read_table(FRAME.set_index("date")))
    assert_is_frame(read_table(FRAME.set_index(pd.PeriodIndex(TIMES, freq="h"))[["load", "OT"]]))
    aware = FRAME.assign(date=FRAME["date"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"))
    assert_is_frame(read_table(aware))


def test_a_file_without_header_and_time_stamps(tmp_path: Path) -> None:
    file = tmp_path / "exchange.txt.gz"
    pd.DataFrame(VALUES).to_csv(file, index=False, header=False)
    table = read_table(file)
    np.testing.assert_allclose(table.values, VALUES)
    assert table.channels == ["0", "1"] and table.times is None and table.frequency is None
    pd.DataFrame(VALUES).to_csv(file, index=False)  # with the names that pandas gives
    np.testing.assert_allclose(read_table(file).values, VALUES)


def test_row_numbers_that_pandas_has_written_are_no_channel(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "numbered.csv")
    assert_is_frame(read_table(tmp_path / "numbered.csv"))
    FRAME.set_index(TIMES.rename(None)).drop(columns="date").to_csv(tmp_path / "dated.csv")
    assert_is_frame(read_table(tmp_path / "dated.csv"))
    FRAME.set_index("load")[["date", "OT"]].rename_axis(None).to_csv(tmp_path / "other.csv")
    assert read_table(tmp_path / "other.csv").channels == ["Unnamed: 0", "OT"]


def test_channels_and_the_time_column_are_chosen() -> None:
    table = read_table(FRAME, channels=["OT"])
    assert table.channels == ["OT"] and table.values.shape == (12, 1)
    frame = FRAME.rename(columns={"date": "when"}).assign(entered="2024-02-01", load2=1)
    frame["when"] = frame["when"].dt.strftime("%Y/%m/%d %H:%M")
    assert_is_frame(read_table(frame, channels=["load", "OT"]))  # the first that holds dates
    assert_is_frame(read_table(frame, channels=["load", "OT"], time_column="when"))


@pytest.mark.parametrize("frequency", ["10min", "D", "B", "W-WED", "MS", "QS-JAN", "YS-JAN"])
def test_steps_of_the_calendar_are_equal_steps(frequency: str) -> None:
    frame = pd.DataFrame({"a": np.arange(30.0)}, index=pd.date_range("2020-01-01", periods=30, freq=frequency))
    assert read_table(frame).frequency == frequency


def irregular(change: Any) -> pd.DataFrame:
    times = list(TIMES)
    change(times)
    return FRAME.iloc[: len(times)].assign(date=times)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda times: times.insert(4, times.pop(7)), r"do not rise: row 5 \(2024-01-01 04:00:00\) is earlier than "
                                                      r"row 4 \(2024-01-01 07:00:00\), 1 such rows.*Sort"),
        (lambda times: times.__setitem__(5, times[4]), r"comes twice: rows 4 and 5 \(2024-01-01 04:00:00\)"),
        (lambda times: times.pop(6), r"gaps, .*from row 5 \(2024-01-01 05:00:00\) to row 6 \(2024-01-01 07:00:00\) "
                                     "it is 0 days 02:00:00, usually 0 days 01:00:00"),
    ],
)  # fmt: skip
def test_irregular_time_stamps_are_named(change: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hf_scorevi.time_series import timestamps

    frame = irregular(change)
    with pytest.raises(InputError, match=message + ".*set irregular to 'warn'"):
        read_table(frame)
    warnings: list[str] = []
    monkeypatch.setattr(timestamps.logger, "warning", warnings.append)
    table = read_table(frame, irregular="warn")
    np.testing.assert_array_equal(table.values, VALUES[: len(frame)])
    assert len(warnings) == 1 and "taken as they come" in warnings[0] and table.frequency == "h"


def test_a_gap_among_months_is_found() -> None:
    index = pd.date_range("2020-01-01", periods=30, freq="MS").delete(7)
    with pytest.raises(InputError, match=r"from row 6 \(2020-07-01 .* to row 7 \(2020-09-01"):
        read_table(pd.DataFrame({"a": np.arange(29.0)}, index=index))


def test_missing_values_are_named_or_filled(tmp_path: Path) -> None:
    frame = FRAME.copy()
    frame.loc[[3, 4], "OT"] = np.nan
    frame.to_csv(tmp_path / "gaps.csv", index=False)
    with pytest.raises(InputError, match=r"missing in OT \(2\); the first in row 3, column 'OT'.*'interpolate'"):
        read_table(tmp_path / "gaps.csv")
    expected = VALUES.copy()
    expected[3:5, 1] = VALUES[2, 1]
    np.testing.assert_allclose(read_table(frame, missing="ffill").values, expected)
    expected[3:5, 1] = VALUES[2, 1] + (VALUES[5, 1] - VALUES[2, 1]) * np.array([1, 2]) / 3
    np.testing.assert_allclose(read_table(frame, missing="interpolate").values, expected)
    assert read_table(frame, channels=["load"]).values.shape == (12, 1)


@pytest.mark.parametrize(
    ("missing", "row", "message"),
    [
        ("ffill", 0, "missing='ffill' cannot fill these, which have no value before them"),
        ("interpolate", 0, "no value on one side"),
        ("interpolate", 11, "no value on one side"),
    ],
)
def test_what_cannot_be_filled_is_named(missing: str, row: int, message: str) -> None:
    frame = FRAME.copy()
    frame.loc[row, "load"] = np.nan
    with pytest.raises(InputError, match=f"row {row}, column 'load'.*{message}"):
        read_table(frame, missing=missing)


@pytest.mark.parametrize(
    ("frame", "kwargs", "message"),
    [
        (FRAME.assign(load=["?"] + ["1"] * 11), {}, "'load' is not numeric: row 0 holds '[?]'"),
        (FRAME.assign(load=np.inf), {}, "'load' is infinite in row 0, 12 values in all"),
        (FRAME.assign(load=np.inf), {"missing": "ffill"}, "'load' is infinite"),
        (FRAME.assign(load=[[1.0, 2.0]] * 12), {}, "'load' holds lists. A row is one time step"),
        (FRAME.assign(later=TIMES), {}, "'later' holds dates; name it as the time column"),
        (FRAME, {"channels": ["load", "gone"]}, "no column 'gone'; its columns are date, load, OT"),
        (FRAME, {"channels": ["OT", "OT"]}, "different columns"),
        (FRAME, {"channels": ["date"]}, "not the time stamps: date"),
        (FRAME, {"time_column": "clock"}, "no column 'clock'"),
        (FRAME, {"time_column": "load"}, "time column 'load' holds numbers"),
        (FRAME.assign(date=np.arange(12)), {}, "time column 'date' holds numbers"),
        (FRAME.assign(date=["2024-01-01"] * 11 + ["soon"]), {}, "time column 'date' holds something that is no date"),
        (FRAME.assign(date=[*TIMES[:-1], None]), {}, "time column 'date' is empty in row 11"),
        (FRAME[["date"]], {}, "no channels"),
        (FRAME.iloc[:0], {}, "no rows"),
        (FRAME.set_axis(["date", "OT", "OT"], axis=1), {}, "two columns 'OT'"),
        (FRAME, {"missing": "zero"}, "missing must be one of error, ffill, interpolate"),
        (FRAME, {"irregular": "sort"}, "irregular must be"),
        (3, {}, "not int"),
        ("gone.csv", {}, "no file 'gone.csv'"),
        ("series.xlsx", {}, r"unknown kind; give a file that ends in \.csv"),
    ],
)
def test_bad_tables_are_named(frame: Any, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_table(frame, **kwargs)


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    for name in ("empty.csv", "damaged.csv.gz", "damaged.parquet"):
        (tmp_path / name).write_text("")
        with pytest.raises(InputError, match=f"{name}' cannot be read as a table"):
            read_table(tmp_path / name)
