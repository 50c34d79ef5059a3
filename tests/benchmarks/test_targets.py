"""Scores against automatic and finite differences; references against the identities of the score."""

import math

import numpy as np
import pytest
import torch

from benchmarks.targets import Reference, Target, autograd_score, groups
from benchmarks.targets.gaussian import random_gaussian
from benchmarks.targets.mixture import OPTIMA_1D, mixture_1d
from benchmarks.targets.noisy import NOISE_VARIANCES, bam_variance, noisy_gaussian
from benchmarks.targets.sinh_arcsinh import sinh_arcsinh
from tests.benchmarks.identities import score_identities

BUILDERS = {name: build for members in groups().values() for name, build in members.items()}
QUIET = [
    name for name in BUILDERS if not name.startswith(("noisy", "bnn", "logistic-minibatch")) and "256" not in name
]


def points(target: Target, number: int = 4) -> torch.Tensor:
    return torch.randn(number, target.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("name", BUILDERS)
def test_interface(name: str) -> None:
    target = BUILDERS[name]()
    x = points(target)
    assert target.name == name
    assert target.log_prob(x).shape == (4,) and target.log_prob(x).dtype == torch.float64
    assert target.score(x).shape == x.shape and target.score(x).dtype == torch.float64
    assert target.reference is None or target.reference.covariance.shape == (target.dim, target.dim)


@pytest.mark.parametrize("name", QUIET)
def test_score_is_the_gradient(name: str) -> None:
    target = BUILDERS[name]()
    x, step = points(target), 1e-5
    score = target.score(x)
    scale = score.abs().max()
    assert torch.allclose(score, autograd_score(target.log_prob)(x), rtol=1e-9, atol=1e-10 * scale)
    direction = torch.nn.functional.normalize(points(target, 1), dim=1)
    difference = (target.log_prob(x + step * direction) - target.log_prob(x - step * direction)) / (2 * step)
    assert torch.allclose(score @ direction[0], difference, rtol=1e-4, atol=1e-6 * scale)


@pytest.mark.parametrize("name", [name for name in QUIET if name.startswith(("sinh", "logistic"))])
def test_score_identities_under_reference_draws(name: str) -> None:
    target = BUILDERS[name]()
    assert target.reference is not None and target.reference.draws is not None
    found = score_identities(target.score, target.reference.draws)
    assert found.worst < 5.0


def test_score_identities_notice_a_wrong_score() -> None:
    target = sinh_arcsinh(1.0, 1.0)
    assert target.reference is not None and target.reference.draws is not None
    assert score_identities(lambda x: 1.05 * target.score(x), target.reference.draws).worst > 5.0


def test_condition_number_and_smallest_eigenvalue() -> None:
    reference = random_gaussian(16, 1000.0).reference
    assert reference is not None
    values = torch.linalg.eigvalsh(reference.covariance)
    assert values[0].item() == pytest.approx(0.1, rel=1e-9) and values[-1].item() == pytest.approx(100.0, rel=1e-9)


def quadrature(target: Target, low: float, high: float, number: int = 20_001) -> tuple[np.ndarray, np.ndarray]:
    x = np.linspace(low, high, number)
    return x, np.exp(target.log_prob(torch.from_numpy(x)[:, None]).numpy())


def test_one_dimensional_densities_are_normalised() -> None:
    for target in (mixture_1d(), sinh_arcsinh(1.0, 1.2, dim=1, num_draws=10), noisy_gaussian(0.0)):
        x, density = quadrature(target, -60.0, 60.0, 200_001)
        assert np.trapezoid(density, x) == pytest.approx(1.0, abs=1e-6)


def test_mixture_moments_against_quadrature() -> None:
    target = mixture_1d()
    x, density = quadrature(target, -10.0, 10.0)
    mean = np.trapezoid(x * density, x)
    variance = np.trapezoid((x - mean) ** 2 * density, x)
    assert target.reference is not None
    assert target.reference.mean.item() == pytest.approx(mean, abs=1e-8)
    assert target.reference.covariance.item() == pytest.approx(variance, abs=1e-8)
    assert (mean, variance) == pytest.approx(OPTIMA_1D["forward KL"], abs=1e-4)


@pytest.mark.parametrize("name", ["reverse KL, wide", "reverse KL, mode"])
def test_reverse_kl_optima_are_stationary(name: str) -> None:
    """E_q[score] = 0 and E_q[score · (x − m)] = −1."""
    mean, variance = OPTIMA_1D[name]
    x = mean + math.sqrt(variance) * np.linspace(-12.0, 12.0, 20_001)
    q = np.exp(-0.5 * (x - mean) ** 2 / variance) / math.sqrt(2 * math.pi * variance)
    score = mixture_1d().score(torch.from_numpy(x)[:, None])[:, 0].numpy()
    assert np.trapezoid(q * score, x) == pytest.approx(0.0, abs=1e-4)
    assert np.trapezoid(q * score * (x - mean), x) == pytest.approx(-1.0, abs=1e-4)


@pytest.mark.parametrize("noise", NOISE_VARIANCES)
def test_noisy_score_has_the_noise_it_says(noise: float) -> None:
    target = noisy_gaussian(noise, seed=3)
    x = torch.zeros(20_000, 1, dtype=torch.float64)
    scores = target.score(x)  # of N(0, 1) at 0: noise alone
    assert scores.var().item() == pytest.approx(noise, rel=0.05, abs=1e-12)
    assert abs(scores.mean().item()) <= 5 * (noise / len(x)) ** 0.5
    assert torch.equal(noisy_gaussian(noise, seed=3).score(x), scores), "the seed fixes the noise"


@pytest.mark.parametrize("noise", NOISE_VARIANCES)
def test_bam_variance_is_its_fixed_point(noise: float) -> None:
    """BaM's equation S U S + S = V with a large batch from q = N(0, s): U = r (s + ν) and V = s + r s, for any r."""
    s, r = bam_variance(noise), 3.0
    assert s > 0 and s * r * (s + noise) * s + s == pytest.approx(s + r * s)


@pytest.mark.parametrize("name", ["logistic-minibatch", "bnn-regression", "bnn-classification"])
def test_minibatch_score_is_unbiased(name: str) -> None:
    target = BUILDERS[name]()
    x = 0.3 * points(target)
    exact = autograd_score(target.log_prob)(x)
    scores = torch.stack([target.score(x) for _ in range(1500)])
    z = (scores.mean(0) - exact) / (scores.std(0) / len(scores) ** 0.5)
    assert z.abs().max().item() < 5.0


def test_reference_from_draws_has_divisor_n() -> None:
    draws = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    reference = Reference.from_draws(draws)
    assert reference.mean.item() == 1.0 and reference.covariance.shape == (1, 1) and reference.covariance.item() == 1.0
