import pytest
import torch

from hf_scorevi.blackbox import Gaussian
from hf_scorevi.blackbox.advi import ADVI, negative_elbo_gradient
from hf_scorevi.blackbox.noise import normal_noise
from tests.blackbox.targets import funnel, random_gaussian


def from_parameters(mean, scale) -> Gaussian:
    if scale.dim() == 1:
        return Gaussian(mean, scale.exp())
    return Gaussian(mean, scale.tril(-1) + torch.diag(scale.diagonal().exp()))


def log_scale(q: Gaussian):
    return q.scale.log() if q.diagonal else q.scale.tril(-1) + torch.diag(q.scale.diagonal().log())


@pytest.mark.parametrize("stl", [False, True])
@pytest.mark.parametrize("diagonal", [False, True])
def test_gradient_is_that_of_autograd(diagonal, stl):
    q = random_gaussian(3)
    if diagonal:
        q = Gaussian(q.mean, q.scale.diagonal().clone())
    z = normal_noise(6, 3, 0)
    mean, scale = q.mean.clone().requires_grad_(), log_scale(q).requires_grad_()
    live = from_parameters(mean, scale)
    x = live.transform(z)
    if stl:
        loss = (from_parameters(mean.detach(), scale.detach()).log_prob(x) - funnel(x)).mean()
    else:
        loss = -funnel(x).mean() - live._log_det()
    expected = torch.autograd.grad(loss, (mean, scale))
    leaf = q.transform(z).requires_grad_()
    (score,) = torch.autograd.grad(funnel(leaf).sum(), leaf)
    for ours, theirs in zip(negative_elbo_gradient(q, z, score, stl), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_sticking_the_landing_has_no_noise_at_the_optimum():
    q = random_gaussian(4)
    z = normal_noise(3, 4, 0)
    score = q.score(q.transform(z))
    for part in negative_elbo_gradient(q, z, score, stl=True):
        assert part.abs().max() == 0
    assert negative_elbo_gradient(q, z, score, stl=False)[0].norm() > 0.1


def test_antithetic_noise():
    z = ADVI(3, 6, None, stl=True, antithetic=True, max_evaluations=100).noise(0, 0)
    assert z.shape == (6, 3) and torch.equal(z[:3], -z[3:])
    with pytest.raises(ValueError, match="batch_size must be even, not 5"):
        ADVI(3, 5, None, stl=True, antithetic=True, max_evaluations=100)
