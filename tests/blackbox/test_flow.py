import math
import sys

import pytest
import torch

from hf_scorevi.blackbox import fit, fit_flow
from tests.blackbox.targets import random_gaussian


def banana(x):
    """x₀ ~ N(0, 1), x₁ ~ N(x₀², ½²); normalised, so that a negative ELBO is a KL."""
    return -0.5 * x[:, 0].square() - 2 * (x[:, 1] - x[:, 0].square()).square() - math.log(math.pi)


def quiet(*args, **kwargs):
    return fit_flow(*args, progress=False, **kwargs)


def test_a_flow_goes_where_no_gaussian_can():
    gaussian = fit(banana, dim=2, progress=False).trace[-1]["negative_elbo"]
    r = quiet(banana, dim=2, max_evaluations=10_000)
    assert gaussian > 0.4
    assert r.trace[-1]["negative_elbo"] < 0.15
    assert r.trace[0]["evaluations"] == 0 and r.evaluations == r.trace[-1]["evaluations"] <= 10_000
    x = r.sample(20_000, seed=3)
    # E x₁ = 1, Var x₁ = 2 + ¼ under the target; q at a KL of .1 is close to both.
    assert x[:, 1].mean().item() == pytest.approx(1, abs=0.2)
    assert x[:, 1].std().item() == pytest.approx(1.5, abs=0.3)


def test_a_gaussian_target_in_other_units():
    """From its score alone, from far and of another scale; noise of the score's own size biases nothing."""
    target = random_gaussian(2)
    generator = torch.Generator().manual_seed(0)

    def score(x):
        at = (x - 5) / 10
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        return target.score(at) / 10 + 0.1 * noise @ torch.linalg.cholesky(target.precision).T

    r = quiet(score=score, dim=2, init_mean=[5.0, 5.0], init_std=10.0, max_evaluations=20_000, batch_size=256)
    x = (r.sample(20_000) - 5) / 10
    std = target.covariance.diagonal().sqrt()
    assert ((x.mean(0) - target.mean) / std).abs().max() < 0.1
    assert (x.std(0) / std - 1).abs().max() < 0.1
    assert "negative_elbo" not in r.trace[-1]


def test_the_density_is_normalised_and_that_of_the_draws():
    r = quiet(banana, dim=2, max_evaluations=1000)
    grid = torch.linspace(-15, 15, 601, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    assert r.log_prob(points).exp().sum().item() * 0.05**2 == pytest.approx(1, abs=0.02)


def test_reproducible_and_without_the_global_state():
    state = torch.random.get_rng_state()
    a, b, c = (quiet(banana, dim=2, max_evaluations=600, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(a.sample(5, seed=2), b.sample(5, seed=2))
    assert not torch.equal(a.sample(5, seed=2), c.sample(5, seed=2))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_users_flow_is_used_and_left_alone():
    from zuko.flows import MAF

    flow = MAF(2, transforms=1, hidden_features=(8,), activation=torch.nn.Tanh)
    before = {name: value.clone() for name, value in flow.state_dict().items()}
    r = quiet(banana, dim=2, flow=flow, max_evaluations=600)
    assert all(torch.equal(value, before[name]) for name, value in flow.state_dict().items())
    assert len(r.flow.transform.transforms) == 1


def test_batches_that_are_not_finite_are_passed_over():
    def score(x):
        return torch.where(x.abs() < 2.5, -x, torch.nan)

    r = quiet(score=score, dim=2, batch_size=16, max_evaluations=800, init_std=0.5)
    assert r.sample(10).isfinite().all()
    with pytest.raises(ValueError, match="not finite at samples of the first q"):
        quiet(score=lambda x: x * torch.nan, dim=2)
    calls = []

    def soon_nan(x):
        calls.append(x)
        return -x if len(calls) < 3 else x * torch.nan

    assert quiet(score=soon_nan, dim=2).message.startswith("Gave up after 50 batches")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 1}, "batch_size must be between 2 and max_evaluations"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"proximal_weight": -1.0}, "proximal_weight must be positive"),
        ({"init_std": -1.0}, "init_std must be positive"),
        ({"dim": 1}, "in one dimension the default flow is a Gaussian; give flow="),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        quiet(banana, **({"dim": 2} | arguments))


def test_without_zuko_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(ImportError, match=r"pip install 'hf_scorevi\[flows\]'"):
        quiet(banana, dim=2)
