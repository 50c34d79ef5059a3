import math

import numpy as np
import pytest
import torch

from hf_scorevi.metrics import seasonal_errors


def test_by_hand():
    histories = [[1.0, 2.0, 4.0, 8.0], np.array([5, 5, 6]), torch.tensor([1.0, 3.0])]
    assert seasonal_errors(histories).tolist() == pytest.approx([7 / 3, 0.5, 2.0])
    assert seasonal_errors(histories[:2], 2).tolist() == pytest.approx([(3 + 6) / 2, 1.0])


def test_a_repeated_season_has_no_error_and_a_random_walk_the_known_one():
    assert seasonal_errors([[1.0, 2.0, 3.0] * 4], 3).tolist() == [0.0]
    walk = np.random.default_rng(0).normal(size=100_000).cumsum()
    # |N(0, 1)| has the mean √(2/π) and a standard deviation of 0.6.
    assert seasonal_errors([walk])[0] == pytest.approx(math.sqrt(2 / math.pi), abs=4 * 0.6 / math.sqrt(100_000))


@pytest.mark.parametrize(
    ("history", "season_length", "message"),
    [
        ([], 1, "history is empty"),
        ([[1.0, 2.0], [1.0]], 1, r"history\[1\] must have the shape \[time\] with more than season_length = 1 values"),
        ([[1.0, 2.0]], 2, "give more of the past, or a shorter season_length"),
        ([1.0, 2.0], 1, r"history\[0\] must have the shape \[time\]"),
        ([[1.0, math.nan]], 1, r"history\[0\] holds NaN or infinity"),
        ([["a", "b"]], 1, "must be real numbers"),
        ([[1.0, 2.0]], 0, "season_length must be an integer of at least 1"),
        ([[1.0, 2.0]], 1.0, "season_length must be an integer of at least 1"),
    ],
)
def test_refuses(history, season_length, message):
    with pytest.raises(ValueError, match=message):
        seasonal_errors(history, season_length)
