import numpy as np
import pandas as pd
import pytest
import torch

from hf_scorevi.errors import InputError
from hf_scorevi.pipelines.series import as_table, horizon_times, is_several, time_features
from hf_scorevi.time_series import calendar_features
from tests.forecasters import HORIZON, series, tiny_koopa, tiny_transformer

FRAME = series(5)
ROWS = FRAME.to_numpy()


@pytest.mark.parametrize(
    ("given", "several"),
    [
        (ROWS, False),
        (ROWS[:, 0], False),
        (ROWS[None], True),
        (torch.tensor(ROWS), False),
        (torch.tensor(ROWS)[None], True),
        (ROWS.tolist(), False),
        (ROWS[:, 0].tolist(), False),
        (list(ROWS), False),
        ([ROWS.tolist()], True),
        ([ROWS, ROWS], True),
        ([torch.tensor(ROWS)], True),
        (FRAME, False),
        (FRAME["load (MW)"], False),
        ([FRAME], True),
        ([FRAME["load (MW)"]], True),
        ([], False),
    ],
)
def test_one_series_or_several(given, several):
    assert is_several(given) == several


def test_time_stamps_are_found_in_the_index_or_in_a_column():
    written = FRAME.rename_axis("date").reset_index()
    for given in (
        FRAME,
        written,
        written.assign(date=written["date"].astype(str)),
        FRAME.set_axis(FRAME.index.to_period()),
    ):
        values, times = as_table(given)
        np.testing.assert_array_equal(values[FRAME.columns], ROWS)
        assert list(values.columns) == list(FRAME.columns)
        assert list(times) == list(FRAME.index)


def test_without_time_stamps_there_are_none():
    assert as_table(ROWS)[1] is None
    numbered = pd.DataFrame(ROWS)  # columns 0, 1
    values, times = as_table(numbered)
    assert times is None
    assert list(values.columns) == ["0", "1"]
    assert list(as_table(FRAME["load (MW)"])[0].columns) == ["load (MW)"]


@pytest.mark.parametrize("frequency", ["h", "15min", "D", "W-TUE", "MS", "ME", "QS-OCT", "YS"])
def test_the_horizon_follows_the_past(frequency):
    all_times = pd.date_range("2024-01-31", periods=9, freq=frequency)
    found = horizon_times(all_times[:5], 4, None)
    assert list(found) == list(all_times[5:])


def test_a_zone_is_kept():
    all_times = pd.date_range("2024-03-30 22:00", periods=9, freq="h", tz="Europe/Berlin")  # over a change of clocks
    assert list(horizon_times(all_times[:5], 4, None)) == list(all_times[5:])


def test_two_time_stamps_need_the_frequency_of_the_training():
    two = pd.date_range("2024-01-01", periods=2, freq="D")
    assert horizon_times(two, 3, None) is None
    assert list(horizon_times(two, 1, "D")) == [pd.Timestamp("2024-01-03")]


def test_another_frequency_than_in_training_is_warned_about(caplog):
    times = pd.date_range("2024-01-01", periods=5, freq="15min")
    assert horizon_times(times, 1, "h")[0] == pd.Timestamp("2024-01-01 01:15")
    assert "'15min'" in caplog.text and "'h'" in caplog.text
    caplog.clear()
    horizon_times(pd.date_range("2024-01-01", periods=5, freq="60min"), 1, "h")
    assert not caplog.text


def test_irregular_time_stamps_are_refused():
    with pytest.raises(InputError, match="gaps"):
        horizon_times(FRAME.index.delete(2), 3, "h")
    with pytest.raises(InputError, match="do not rise"):
        horizon_times(FRAME.index[::-1], 3, "h")


def test_a_model_without_time_features_takes_none():
    assert time_features(tiny_koopa().config, torch.zeros(1, 16, 2), None, None) == {}


def test_features_are_those_of_the_calendar():
    past, future = (
        pd.date_range(start, periods=n, freq="h") for start, n in (("2024-01-01", 19), ("2024-01-01 19:00", HORIZON))
    )
    values = torch.randn(1, 19, 2)
    found = time_features(tiny_transformer().config, values, past, future)
    assert torch.equal(found["past_values"], values)
    assert found["past_observed_mask"].shape == values.shape
    assert found["past_observed_mask"].min() == 1
    for name, times in (("past", past), ("future", future)):
        np.testing.assert_allclose(found[f"{name}_time_features"][0], calendar_features(times), atol=1e-7)


def test_a_single_channel_has_no_dimension_of_its_own():
    config = tiny_transformer(1, num_time_features=0).config
    found = time_features(config, torch.zeros(1, 19, 1), None, None)
    assert found["past_values"].shape == found["past_observed_mask"].shape == (1, 19)
    assert found["past_time_features"].shape == (1, 19, 0)
    assert found["future_time_features"].shape == (1, HORIZON, 0)


def test_features_that_cannot_be_made_are_named():
    with pytest.raises(ValueError, match="takes 3 time features"):
        time_features(tiny_transformer(num_time_features=3).config, torch.zeros(1, 19, 2), None, None)
    with pytest.raises(ValueError, match="as a DataFrame with time stamps"):
        time_features(tiny_transformer().config, torch.zeros(1, 19, 2), FRAME.index, None)


def test_dates_that_are_text_say_whether_the_day_comes_first() -> None:
    times = pd.date_range("2024-02-01", periods=10)
    frame = pd.DataFrame({"date": times.strftime("%d/%m/%Y"), "load": np.arange(10.0)})
    with pytest.raises(InputError, match=r"several ways.*with dayfirst"):
        as_table(frame)
    values, found = as_table(frame, dayfirst=True)
    assert list(values.columns) == ["load"] and list(found) == list(times)
