import numpy as np
import pytest
from scipy.stats import binomtest

from hf_scorevi.metrics import wilson_interval


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (0, 20), (7, 20), (20, 20), (500, 1000)])
def test_wilson_interval_agrees_with_scipy(successes, count):
    low, high = wilson_interval(np.array([successes / count]), np.array([count]))
    expected = binomtest(successes, count).proportion_ci(confidence_level=0.95, method="wilson")
    assert low[0] == pytest.approx(expected.low, abs=1e-7)
    assert high[0] == pytest.approx(expected.high, abs=1e-7)
