import numpy as np
import pytest

from hf_scorevi.metrics import interval_coverage, msis


def test_by_hand():
    # Of 0, 1, 2, 3, 4 the interval of 50 % is [1, 3]: scores 2 and 2 + 4 × 2, by 0.5 and 4.
    result = msis([[4.0, 0.0, 2.0, 1.0, 3.0]] * 2, [2.0, 5.0], [0.5, 4.0], level=0.5)
    assert result == {
        "msis": (4 + 2.5) / 2,
        "interval_score": 6.0,
        "level": 0.5,
        "interval": "central",
        "quantiles": "linear",
        "num_samples": 5,
    }


def test_with_scales_of_one_is_the_interval_score(monkeypatch):
    rng = np.random.default_rng(0)
    samples, targets = rng.normal(size=(101, 30)), rng.normal(0, 2, size=101)
    expected = interval_coverage(samples, targets, [0.95])["interval_score"]
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 200)
    assert [msis(samples, targets, np.ones(101))["msis"]] == pytest.approx(expected, rel=1e-12)
    scaled = msis(8 * samples, 8 * targets, np.full(101, 8.0))
    assert [scaled["msis"]] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_refuses_levels(level):
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        msis([[1.0]], [1.0], [1.0], level)
