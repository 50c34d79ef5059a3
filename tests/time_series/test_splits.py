"""Chronological splits against the borders of the literature's data loaders, worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hf_scorevi.time_series import SlidingWindows, chronological_splits, ett_rows, fraction_rows


def test_fractions_give_the_rows_of_the_literature() -> None:
    assert fraction_rows(966) == (676, 97, 193)  # national_illness: int(966 · 0.7), the rest, int(966 · 0.2)
    assert fraction_rows(10, (0.7, 0.1, 0.2)) == (7, 1, 2)
    assert fraction_rows(7588) == (5311, 760, 1517)
    assert fraction_rows(10, (0.8, 0.2, 0)) == (8, 2, 0)


def test_the_ett_convention_is_20_months_of_30_days() -> None:
    assert ett_rows(17420) == (8640, 2880, 2880)
    assert ett_rows(69680, steps_per_hour=4) == (34560, 11520, 11520)
    with pytest.raises(ValueError, match="14399 rows, fewer than the 14400"):
        ett_rows(14399)


def test_each_part_forecasts_its_own_rows_alone() -> None:
    splits = chronological_splits((8640, 2880, 2880), context_length=96)
    # border1s = 0, 12·30·24 − 96, 16·30·24 − 96; border2s = 12, 16, 20 months
    assert splits == (slice(0, 8640), slice(8544, 11520), slice(11424, 14400))
    rows = np.arange(17420.0)
    forecast = []
    for part in splits:
        windows = SlidingWindows(rows[part], 96, 48)
        forecast.append((float(windows[0]["future_values"][0]), float(windows[-1]["future_values"][-1])))
    assert forecast == [(96, 8639), (8640, 11519), (11520, 14399)]
    assert len(SlidingWindows(rows[splits.test], 96, 48)) == 2880 - 48 + 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fraction_rows(10, (0.5, 0.1, 0.2)), "three numbers with the sum 1"),
        (lambda: fraction_rows(10, (0.8, 0.2)), "three numbers"),
        (lambda: chronological_splits((10, 5), 4), "three whole numbers"),
        (lambda: chronological_splits((0, 5, 5), 4), "training .at least 1."),
        (lambda: chronological_splits((10, 5, 5), 11), "10 rows, fewer than the context_length 11"),
    ],
)
def test_wrong_splits_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
