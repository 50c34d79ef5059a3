import datetime

import numpy as np
import pandas as pd
import pytest

from hf_scorevi.plots._times import time_stamps


def test_without_times_the_last_of_the_context_is_step_zero():
    assert time_stamps(None, 3, 2).tolist() == [-2, -1, 0, 1, 2]


DAYS = pd.date_range("2024-02-27", periods=4)


@pytest.mark.parametrize(
    "times",
    [
        DAYS,
        DAYS.to_series(),
        DAYS.to_numpy(),
        [str(day.date()) for day in DAYS],
        [day.date() for day in DAYS],
        [datetime.datetime(2024, 2, 27) + datetime.timedelta(i) for i in range(4)],
        list(DAYS),
    ],
)
def test_dates_of_any_kind_are_time_stamps(times):
    np.testing.assert_array_equal(time_stamps(times, 3, 1), DAYS.to_numpy())


def test_a_zone_s_clock_is_kept():
    there = pd.date_range("2024-02-27 09:00", periods=4, freq="h", tz="Asia/Tokyo")
    assert str(time_stamps(there, 2, 2)[0]).startswith("2024-02-27T09:00")


def test_numbers_stay():
    assert time_stamps([1960.0, 1961.5, 1963.0], 2, 1).tolist() == [1960.0, 1961.5, 1963.0]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (DAYS[:3], r"shape \[4\], 3 of the past and 1 of the forecast, not \[3\]"),
        ([1, 2, 2, 3], "must increase, but 2 is followed by 2"),
        (DAYS[::-1], "must increase, but 2024-03-01"),
        ([1.0, np.nan, 2.0, 3.0], "must increase, but 1.0 is followed by nan"),
        (["a", "b", "c", "d"], "no time stamp"),
        ([True, False, True, False], "time stamps or numbers, not bool"),
    ],
)
def test_names_what_is_wrong(times, message):
    with pytest.raises(ValueError, match=message):
        time_stamps(times, 3, 1)
