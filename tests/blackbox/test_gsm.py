import numpy as np
import pytest
import torch

from hf_scorevi.blackbox import Gaussian
from hf_scorevi.blackbox.gsm import gsm_update, gsm_update_diagonal
from hf_scorevi.blackbox.noise import normal_noise
from tests.blackbox.targets import random_gaussian


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dim", [1, 2, 6])
def test_score_is_matched_at_the_sample(dim, seed):
    q = random_gaussian(dim, seed)
    x, g = q.sample(1, seed), normal_noise(1, dim, 50, seed)
    new = Gaussian.from_covariance(*gsm_update(q.mean, q.covariance, x, g))
    scale = 1 + new.precision.abs().max() / q.precision.diagonal().min()
    torch.testing.assert_close(new.score(x), g, rtol=0, atol=1e-12 * scale.item())


def test_smallest_change():
    """KL(q_t‖q) grows along every perturbation that keeps the score at x: in 1-D, one family of Gaussians."""
    q = Gaussian(torch.tensor([0.3]).double(), torch.tensor([1.2]).double())
    x, g = torch.tensor([[1.1]]).double(), torch.tensor([[-2.0]]).double()
    mean, variance = gsm_update_diagonal(q.mean, q.scale.square(), x, g)
    best = q.kl(Gaussian(mean, variance.sqrt()))
    for factor in (0.9, 0.99, 1.01, 1.1):
        other = variance * factor
        assert q.kl(Gaussian(x[0] + other * g[0], other.sqrt())) > best


def test_diagonal_form_is_the_one_dimensional_form():
    x, g = normal_noise(3, 4, 1), normal_noise(3, 4, 2)
    mean, variance = normal_noise(1, 4, 3)[0], torch.rand(4, generator=torch.Generator().manual_seed(0)).double() + 0.5
    new_mean, new_variance = gsm_update_diagonal(mean, variance, x, g)
    for i in range(4):
        m, v = gsm_update(mean[i : i + 1], variance[i].view(1, 1), x[:, i : i + 1], g[:, i : i + 1])
        torch.testing.assert_close(new_mean[i], m[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(new_variance[i], v[0, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 4])
def test_parity_with_the_authors_package(batch):
    theirs = pytest.importorskip("gsmvi.gsm_numpy", reason="gsmvi is not a dependency; pip install gsmvi to compare")
    q = random_gaussian(5, 3)
    x, g = q.sample(batch, 0), normal_noise(batch, 5, 9)
    mean, covariance = theirs.gsm_update(x.numpy(), g.numpy(), q.mean.numpy(), q.covariance.numpy())
    ours = gsm_update(q.mean, q.covariance, x, g)
    np.testing.assert_allclose(ours[0].numpy(), mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours[1].numpy(), covariance, rtol=0, atol=1e-10)
