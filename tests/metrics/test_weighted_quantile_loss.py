import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import mean_pinball_loss

from hf_scorevi.metrics import crps, weighted_quantile_loss

DECILES = np.arange(1, 10) / 10


def test_is_twice_the_pinball_loss_over_the_size_of_the_targets():
    rng = np.random.default_rng(0)
    quantiles, targets = rng.normal(size=(50, 9)), rng.normal(size=50)
    pinball = [mean_pinball_loss(targets, quantiles[:, i], alpha=q) for i, q in enumerate(DECILES)]
    by_level = 2 * np.array(pinball) / np.abs(targets).mean()
    assert weighted_quantile_loss(quantiles, targets) == {
        "weighted_quantile_loss": pytest.approx(by_level.mean(), rel=1e-12),
        "by_level": pytest.approx(by_level, rel=1e-12),
        "levels": pytest.approx(DECILES),
        "mean_pinball": pytest.approx(np.mean(pinball), rel=1e-12),
        "convention": "gluonts",
    }


def test_by_hand():
    # Errors 2 and -1 at level 0.9: pinball 1.8 and 0.1; |y| sums to 5.
    result = weighted_quantile_loss([[0.0], [-2.0]], [2.0, -3.0], [0.9])
    assert result["weighted_quantile_loss"] == pytest.approx(2 * 1.9 / 5)
    assert result["mean_pinball"] == pytest.approx(1.9 / 2)


def test_of_the_median_is_the_relative_absolute_error():
    rng = np.random.default_rng(0)
    medians, targets = rng.normal(size=30), rng.normal(size=30)
    result = weighted_quantile_loss(medians[:, None], targets, [0.5])
    expected = np.abs(targets - medians).sum() / np.abs(targets).sum()
    assert result["weighted_quantile_loss"] == pytest.approx(expected, rel=1e-12)


def test_twice_the_pinball_loss_over_many_levels_is_the_crps():
    levels = (np.arange(2000) + 0.5) / 2000
    quantiles = norm.ppf(levels)[None]
    twice = 2 * weighted_quantile_loss(quantiles, [0.7], levels)["mean_pinball"]
    assert twice == pytest.approx(crps(quantiles, [0.7], "biased")["crps"], rel=1e-6)


def test_does_not_depend_on_the_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    quantiles, targets = rng.normal(size=(101, 9)), rng.normal(size=101)
    whole = weighted_quantile_loss(quantiles, targets)["by_level"]
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 30)
    assert weighted_quantile_loss(quantiles, targets)["by_level"] == pytest.approx(whole, rel=1e-12)


def test_refuses_what_cannot_be_weighed():
    with pytest.raises(ValueError, match="targets are all zero"):
        weighted_quantile_loss([[0.0], [1.0]], [0.0, 0.0], [0.5])
    with pytest.raises(ValueError, match="quantiles has 2 columns but there are 9 levels: name all"):
        weighted_quantile_loss([[0.0, 1.0]], [1.0])
