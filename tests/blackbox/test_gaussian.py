import math

import pytest
import torch
from torch.linalg import LinAlgError

from hf_scorevi.blackbox import Gaussian
from tests.blackbox.targets import random_gaussian


def gaussians() -> list[Gaussian]:
    diagonal = Gaussian(torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.1, 1.0, 3.0]).double())
    return [random_gaussian(3), diagonal]


@pytest.mark.parametrize("q", gaussians(), ids=["full", "diagonal"])
def test_agrees_with_torch_distributions(q):
    other = random_gaussian(3, seed=5)
    ours = torch.distributions.MultivariateNormal(q.mean, q.covariance)
    theirs = torch.distributions.MultivariateNormal(other.mean, other.covariance)
    x = q.sample(7, seed=1)
    torch.testing.assert_close(q.log_prob(x), ours.log_prob(x), rtol=1e-12, atol=1e-12)
    assert q.entropy() == pytest.approx(ours.entropy().item(), rel=1e-12)
    assert q.kl(other) == pytest.approx(torch.distributions.kl_divergence(ours, theirs).item(), rel=1e-10)
    assert other.kl(q) == pytest.approx(torch.distributions.kl_divergence(theirs, ours).item(), rel=1e-10)
    assert q.kl(q) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(q.precision @ q.covariance, torch.eye(3).double(), rtol=0, atol=1e-11)
    torch.testing.assert_close(q.score(x), -(x - q.mean) @ q.precision, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(q.transform(q.whiten(x)), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("q", gaussians(), ids=["full", "diagonal"])
def test_samples_have_its_moments(q):
    n = 100_000
    x = q.sample(n, seed=0)
    std = q.covariance.diagonal().sqrt()
    assert ((x.mean(0) - q.mean).abs() < 5 * std / math.sqrt(n)).all()
    error = (torch.cov(x.T) - q.covariance).abs() / torch.outer(std, std)
    assert (error < 5 * math.sqrt(2 / n)).all()


def test_what_is_no_gaussian_is_refused():
    mean = torch.zeros(2).double()
    for covariance in (torch.tensor([[1.0, 2.0], [2.0, 1.0]]).double(), torch.tensor([1.0, -1.0]).double()):
        with pytest.raises(LinAlgError):
            Gaussian.from_covariance(mean, covariance)
    assert not Gaussian(mean * math.nan, torch.ones(2).double()).is_sound()
    assert not Gaussian(mean, torch.tensor([1.0, 0.0]).double()).is_sound()
