import math

import numpy as np
import pytest
import torch

from hf_scorevi.blackbox import fit
from hf_scorevi.blackbox.methods import FAMILIES, METHODS
from tests.blackbox.targets import cauchy, funnel, random_gaussian

# Largest KL to a Gaussian target of D = 4 after the budget: rounding for the methods that meet it exactly.
KL = {"score_vi": 1e-9, "score_vi_gradient": 1e-3, "gsm": 1e-9, "bam": 1e-9, "advi_stl": 1e-4, "advi": 0.02}


def quiet(*args, **kwargs):
    return fit(*args, progress=False, **kwargs)


@pytest.mark.parametrize("method", METHODS)
def test_gaussian_target(method):
    target = random_gaussian(4, seed=1)
    settings = {"batch_size": 32, "learning_rate": 0.1} if method.startswith("advi") else {}
    settings |= {"max_evaluations": 5_000} if method == "score_vi_gradient" else {}
    r = quiet(target.log_prob, dim=4, method=method, reference=(target.mean, target.covariance), **settings)
    last = r.trace[-1]
    assert 0 <= last["reverse_kl"] + 1e-12 < KL[method]
    assert 0 <= last["forward_kl"] + 1e-12 < KL[method]
    # log_prob is normalised: the negative ELBO is the KL, but for Monte-Carlo error.
    assert last["negative_elbo"] == pytest.approx(0, abs=1e-9 + 5 * math.sqrt(KL[method]))
    assert r.trace[0]["evaluations"] == 0 and last["evaluations"] == r.evaluations <= 20_000
    assert r.mean.shape == (4,) and r.covariance.shape == r.precision.shape == (4, 4)
    torch.testing.assert_close(r.precision @ r.covariance, torch.eye(4).double(), rtol=0, atol=1e-8)


@pytest.mark.parametrize("method", ["score_vi", "advi_stl"])
def test_diagonal_family_on_a_correlated_target(method):
    """The reverse KL's optimum: the target's mean, and the reciprocals of the precision's diagonal."""
    target = random_gaussian(4, seed=1)
    adam = {"batch_size": 32, "learning_rate": 0.1} if method == "advi_stl" else {}
    r = quiet(target.log_prob, dim=4, method=method, family="diagonal", **adam)
    tolerance = 1e-8 if method == "score_vi" else 0.15
    expected = target.precision.diagonal().reciprocal()
    torch.testing.assert_close(r.covariance, torch.diag(expected), rtol=tolerance, atol=0)
    torch.testing.assert_close(r.mean, target.mean, rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", ["gsm", "bam"])
def test_diagonal_family_on_an_independent_target(method):
    scale = torch.tensor([0.5, 1.0, 3.0]).double()
    r = quiet(score=lambda x: -(x - 1) / scale**2, dim=3, method=method, family="diagonal")
    torch.testing.assert_close(r.covariance, torch.diag(scale**2), rtol=1e-4, atol=0)
    torch.testing.assert_close(r.mean, torch.ones(3).double(), rtol=0, atol=1e-4)


def test_score_vi_needs_few_evaluations_on_a_gaussian():
    target = random_gaussian(16)
    r = quiet(target.log_prob, dim=16, init_std=0.1, reference=(target.mean, target.covariance))
    assert r.converged and r.evaluations < 500 and r.message.startswith("Converged after")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_reproducible_and_without_the_global_state(method, family):
    state = torch.random.get_rng_state()
    runs = [quiet(funnel, dim=3, method=method, family=family, max_evaluations=400, seed=s) for s in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(runs[0].mean, runs[1].mean) and torch.equal(runs[0].covariance, runs[1].covariance)
    assert not torch.equal(runs[0].mean, runs[2].mean)
    assert runs[0].trace == runs[1].trace
    assert torch.equal(runs[0].sample(5, seed=3), runs[1].sample(5, seed=3))
    assert runs[0].log_prob(torch.zeros(2, 3)).shape == (2,)


def sometimes_nan(x):
    """A standard normal's score, NaN outside of |x| < 2.5: more often than not in some batches."""
    return torch.where(x.abs() < 2.5, -x, torch.nan)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["funnel", "cauchy", "nan", "far"])
def test_never_nan(name, method, family):
    targets = {
        "funnel": {"log_prob": funnel, "dim": 5},
        "cauchy": {"log_prob": cauchy, "dim": 3},
        "nan": {"score": sometimes_nan, "dim": 2, "init_std": 0.1},
        "far": {"log_prob": funnel, "dim": 5, "init_mean": torch.full((5,), -20.0), "init_std": 3.0},
    }
    r = quiet(**targets[name], method=method, family=family, max_evaluations=1000)
    assert r.mean.isfinite().all() and r.covariance.isfinite().all() and r.precision.isfinite().all()
    torch.linalg.cholesky(r.covariance)
    assert r.evaluations <= 1000
    if name == "cauchy" and method == "score_vi":
        assert r.trace[-1]["negative_elbo"] < r.trace[0]["negative_elbo"]


@pytest.mark.parametrize("method", METHODS)
def test_gives_up_on_a_score_that_stays_non_finite(method):
    calls = []

    def score(x):
        calls.append(len(x))
        return -(x - 3) if len(calls) < 3 else x * math.inf

    r = quiet(score=score, dim=2, method=method)
    assert not r.converged
    assert "Gave up after 50 rejected steps" in r.message and "50 of 52 steps were rejected" in r.message
    assert r.mean.isfinite().all() and r.covariance.isfinite().all()
    assert r.evaluations == sum(calls)


def test_a_non_finite_first_score_is_an_error():
    with pytest.raises(ValueError, match=r"not finite at samples of the first q\. Set init_mean and init_std"):
        quiet(lambda x: x.sqrt().log().sum(1), dim=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "hmc"}, "Unknown method 'hmc'; there are score_vi, score_vi_gradient, advi, advi_stl, gsm, bam"),
        ({"family": "low_rank"}, "Unknown family 'low_rank'; there are full, diagonal"),
        ({"dim": 0}, "dim is the number of parameters"),
        ({"seed": 0.5}, "seed must be a whole number"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"max_evaluations": 3}, "max_evaluations=3 is less than one batch of 18"),
        ({"learning_rate": 0.1}, "belongs to score_vi_gradient, advi and advi_stl; score_vi does without"),
        ({"antithetic": True}, "antithetic belongs to advi and advi_stl"),
        ({"method": "advi", "learning_rate": -1.0}, "learning_rate must be a positive number"),
        ({"method": "advi", "proximal_weight": 1.0}, "belongs to score_vi, score_vi_gradient and bam; advi has none"),
        ({"proximal_weight": 0.0}, "proximal_weight must be a positive number or 'auto'"),
        ({"proximal_weight": "none"}, "proximal_weight must be a positive number or 'auto'"),
        ({"tolerance": -1.0}, "tolerance must be a number that is not negative"),
        ({"trace_interval": 0}, "trace_interval must be a positive number"),
        ({"init_mean": torch.zeros(3)}, r"init_mean must be finite and of shape \(2,\), not of shape \(3,\)"),
        ({"init_std": 0.0}, "init_std must be positive"),
        ({"init_std": torch.ones(3)}, "init_std must be positive"),
        ({"reference": (torch.zeros(2), torch.ones(2))}, "reference must be a mean of shape"),
        ({"reference": (torch.zeros(2), -torch.eye(2))}, "covariance is not positive definite"),
        ({"log_prob": None}, "Give log_prob, or score, or both"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        quiet(**({"log_prob": cauchy, "dim": 2} | arguments))


@pytest.mark.parametrize("method", METHODS)
def test_numbers_of_numpy_and_torch_are_numbers(method):
    """Sizes and seeds are often taken from arrays."""
    given = {"dim": 2, "batch_size": 8, "max_evaluations": 200, "seed": 3, "trace_interval": 50}
    plain = quiet(cauchy, method=method, **given)
    of_numpy = quiet(cauchy, method=method, init_std=np.float32(1), **{k: np.int64(v) for k, v in given.items()})
    of_torch = quiet(cauchy, method=method, **{k: torch.tensor(v) for k, v in given.items()})
    assert not torch.equal(plain.covariance, torch.eye(2))
    for other in (of_numpy, of_torch):
        assert torch.equal(plain.mean, other.mean) and torch.equal(plain.covariance, other.covariance)
        assert plain.trace == other.trace
    assert torch.equal(plain.sample(np.int64(4), seed=np.int64(1)), plain.sample(4, seed=1))
