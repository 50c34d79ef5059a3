import math
import tracemalloc

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from hf_scorevi.metrics import mixture_nll
from hf_scorevi.metrics.chunks import CHUNK_ELEMENTS


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scipy(seed):
    rng = np.random.default_rng(seed)
    means, deviations = rng.normal(size=(30, 5)), rng.uniform(0.2, 3.0, size=(30, 5))
    targets = rng.normal(0.0, 3.0, size=30)
    expected = -logsumexp(norm.logpdf(targets[:, None], means, deviations), axis=1, b=1 / 5).mean()
    assert mixture_nll(means, deviations, targets) == {
        "mixture_nll": pytest.approx(expected, rel=1e-12),
        "num_components": 5,
        "weights": "equal",
        "unit": "nats",
    }


def test_is_of_the_mixture_and_not_the_mean_over_components():
    mixture = mixture_nll([[-1.0, 1.0]], 0.1, [1.0])["mixture_nll"]
    assert mixture == pytest.approx(math.log(2) - norm.logpdf(0.0, scale=0.1), rel=1e-12)
    assert mixture < -norm.logpdf([2.0, 0.0], scale=0.1).mean()


def test_scaling_the_unit_adds_its_logarithm():
    rng = np.random.default_rng(0)
    means, targets = rng.normal(size=(30, 5)), rng.normal(size=30)
    once, larger = mixture_nll(means, 0.5, targets), mixture_nll(10 * means, 5.0, 10 * targets)
    assert larger["mixture_nll"] == pytest.approx(once["mixture_nll"] + math.log(10), rel=1e-12)


def test_far_outside_is_finite_where_densities_underflow():
    assert mixture_nll([[0.0, 1.0]], 1.0, [1000.0])["mixture_nll"] == pytest.approx(
        math.log(2) - norm.logpdf(999.0), rel=1e-12
    )
    assert mixture_nll([[0.0, 1.0]], 1e-200, [0.5])["mixture_nll"] == math.inf


def test_refuses_points():
    with pytest.raises(ValueError, match="row 1 of standard_deviations holds zero: a point has no density"):
        mixture_nll([[0.0], [1.0]], [1.0, 0.0], [0.0, 1.0])


def test_memory_does_not_grow_with_the_number_of_components():
    means = np.zeros((20_000, 1000), dtype=np.float32)  # 80 MB
    tracemalloc.start()
    try:
        mixture_nll(means, means + np.float32(1.0), np.zeros(20_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < means.nbytes + 5 * 8 * CHUNK_ELEMENTS  # the table of deviations is made here
