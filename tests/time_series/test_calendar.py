"""The features of a time stamp, by hand."""

import numpy as np
import pandas as pd

from hf_scorevi.time_series import calendar_features


def test_features_of_known_days() -> None:
    # A Wednesday noon in mid-January, and the last quarter hour of a leap year, a Tuesday.
    found = calendar_features(pd.to_datetime(["2020-01-15 12:00", "2024-12-31 23:45"]))
    expected = [[12 / 24, 2 / 6, 14 / 30, 14 / 365], [23.75 / 24, 1 / 6, 30 / 30, 365 / 365]]
    np.testing.assert_allclose(found, np.array(expected) - 0.5, rtol=0, atol=1e-12)
