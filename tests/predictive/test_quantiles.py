import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm

from hf_scorevi.predictive import mixture_quantiles, sample_quantiles

LEVELS = (0.001, 0.05, 0.5, 0.9, 0.999)


def test_one_component_has_the_normal_s_quantiles():
    found = mixture_quantiles(torch.full((3, 2), 1.5), torch.tensor(4.0), LEVELS)
    assert found.numpy() == pytest.approx(np.repeat(norm(1.5, 2).ppf(LEVELS)[:, None], 2, 1), rel=1e-6)


def test_components_apart_are_solved_as_by_scipy():
    means = torch.randn(7, 5, generator=torch.Generator().manual_seed(0)) * 4
    variance = torch.tensor([0.01, 0.5, 1.0, 2.0, 30.0])
    found = mixture_quantiles(means, variance, LEVELS)
    for i in range(5):
        mixture = norm(means[:, i].double().numpy(), variance[i].double().sqrt().item())
        for level, quantile in zip(LEVELS, found[:, i].tolist(), strict=True):
            expected = brentq(lambda y, own, at: own.cdf(y).mean() - at, -60, 60, (mixture, level), xtol=1e-12)
            assert quantile == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("number", [1, 2, 7, 100])
def test_quantiles_of_samples_are_those_of_torch(number):
    samples = torch.randn(number, 4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sample_quantiles(samples, LEVELS), samples.quantile(torch.tensor(LEVELS), dim=0))


@pytest.mark.parametrize("level", [0, 1, -0.1, float("nan")])
def test_a_level_lies_between_zero_and_one(level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        mixture_quantiles(torch.zeros(1, 1), torch.tensor(1.0), [level])
    with pytest.raises(ValueError, match="between 0 and 1"):
        sample_quantiles(torch.zeros(1, 1), [level])


def test_a_variance_is_positive():
    with pytest.raises(ValueError, match="positive"):
        mixture_quantiles(torch.zeros(1, 1), torch.tensor(0.0), [0.5])
