import math

import pytest
import torch

from hf_scorevi.blackbox import Gaussian, fit
from hf_scorevi.blackbox.noise import normal_noise
from hf_scorevi.blackbox.score_vi import ScoreVI, proximal_step, proximal_update
from tests.blackbox.targets import MIXTURE_OPTIMA, mixture, random_gaussian


def score_of(log_prob, x):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(log_prob(leaf).sum(), leaf)[0]


@pytest.mark.parametrize("kappa", [1.0, 2.0, 10.0])
@pytest.mark.parametrize(("optimum", "mean", "std"), [("wide", 0.3, 1.5), ("mode", -1.0, 0.5)])
@pytest.mark.parametrize("diagonal", [False, True])
def test_fixed_points_are_those_of_the_elbo(optimum, mean, std, kappa, diagonal):
    """With exact expectations (quadrature), whatever the proximal weight."""
    # Equidistant nodes converge exponentially, too; Gauss-Hermite's spread out too far to resolve both modes.
    nodes = torch.linspace(-12, 12, 1001, dtype=torch.float64)
    weights = torch.softmax(-nodes.square() / 2, 0)
    scale = torch.tensor([std] if diagonal else [[std]]).double()
    q = Gaussian(torch.tensor([mean]).double(), scale)
    for _ in range(1000):
        u = (score_of(mixture, q.transform(nodes[:, None])) @ q.factor)[:, 0]
        g, slope = (weights * u).sum().view(1), (weights * u * nodes).sum().view(1, 1)
        q, moved, _ = proximal_update(q, g, slope, kappa, radius=0.5)
        if moved.norm() < 1e-10:
            break
    expected = MIXTURE_OPTIMA[optimum]
    assert q.mean.item() == pytest.approx(expected[0], abs=1e-5)
    assert q.covariance.item() == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.parametrize(("optimum", "mean", "std"), [("wide", 0.3, 1.2), ("mode", -1.0, 0.4)])
def test_both_local_optima_from_samples(optimum, mean, std):
    r = fit(mixture, dim=1, init_mean=[mean], init_std=std, batch_size=4000, max_evaluations=400_000, progress=False)
    assert r.mean.item() == pytest.approx(MIXTURE_OPTIMA[optimum][0], abs=1e-2)
    assert r.covariance.item() == pytest.approx(MIXTURE_OPTIMA[optimum][1], abs=1e-2)


@pytest.mark.parametrize("nu", [0.0, 0.25, 1.0, 4.0])
def test_a_noisy_score_biases_nothing(nu):
    """Variance 1 within 2 %, for noise of up to four times the score's own variance (standard error ≤ 0.5 %)."""
    generator = torch.Generator().manual_seed(1)

    def score(x):
        return -x + math.sqrt(nu) * torch.randn(x.shape, generator=generator, dtype=torch.float64)

    r = fit(score=score, dim=1, init_mean=[1.0], init_std=2.0, batch_size=500, max_evaluations=400_000, tolerance=0,
            progress=False)  # fmt: skip
    assert r.covariance.item() == pytest.approx(1, rel=0.02)
    assert r.mean.item() == pytest.approx(0, abs=0.02)


def test_noise_in_many_dimensions():
    target = random_gaussian(8)
    generator = torch.Generator().manual_seed(1)
    unit = torch.linalg.cholesky(target.precision)

    def score(x):
        return target.score(x) + torch.randn(x.shape, generator=generator, dtype=torch.float64) @ unit.T

    r = fit(
        score=score,
        dim=8,
        max_evaluations=20_000,
        tolerance=0,
        reference=(target.mean, target.covariance),
        progress=False,
    )
    assert "estimated KL to the fixed point" in r.message
    # The noise's share: D(D+1)/8 + D/2 = 13, over the samples in memory.
    assert r.trace[-1]["reverse_kl"] < 3 * 13 / 15_000


@pytest.mark.parametrize("diagonal", [False, True])
def test_update_solves_its_equations(diagonal):
    """A − H + κ(I − A⁻¹) = 0 and (A + 2κI) b = g, read off the new Gaussian."""
    kappa, q = 0.7, random_gaussian(4)
    if diagonal:
        q = Gaussian(q.mean, q.scale.diagonal().clone())
    slope, g = -normal_noise(4, 4, 0) - torch.eye(4), normal_noise(1, 4, 1)[0]
    h = -(slope + slope.T) / 2
    new, _, clipped = proximal_update(q, g, slope, kappa)
    assert not clipped
    a = q.factor.T @ new.precision @ q.factor
    inverse = torch.linalg.inv(a)
    residual = a - h + kappa * (torch.eye(4).double() - inverse)
    if diagonal:
        residual = residual.diagonal()
        values, basis = torch.linalg.eigh(h)
        a = (basis * proximal_step(values, g, kappa)[0]) @ basis.T  # the mean sees the full curvature
    assert residual.abs().max() < 1e-10
    b = q.whiten(new.mean[None])[0]
    torch.testing.assert_close((a + 2 * kappa * torch.eye(4).double()) @ b, g, rtol=1e-10, atol=1e-10)


def test_step_is_twice_kl_for_small_steps():
    q = random_gaussian(3)
    slope, g = -torch.eye(3).double() - 1e-4 * normal_noise(3, 3, 0), 1e-4 * normal_noise(1, 3, 1)[0]
    new, moved, _ = proximal_update(q, g, slope, 1e-3)
    assert moved.square().sum().item() == pytest.approx(2 * q.kl(new), rel=1e-3)


def test_trust_region():
    h, g = torch.tensor([1e4, 1e-4, -5.0, 1.0]).double(), torch.tensor([1e3, -1e3, 4.0, 0.1]).double()
    a, b = proximal_step(h, g, 0.01, radius=0.5)
    assert (a.log().abs() <= 0.5 + 1e-12).all()
    assert (b.abs() * a.sqrt() <= 0.5 + 1e-12).all()
    free = proximal_step(h, g, 0.01)
    assert a[3] == free[0][3] and b[3] == free[1][3]


@pytest.mark.parametrize("batch_size", [2, 6, 40])
def test_any_even_batch(batch_size):
    """With a batch that does not span the space the first step waits for enough samples."""
    target = random_gaussian(8)
    r = fit(target.log_prob, dim=8, batch_size=batch_size, reference=(target.mean, target.covariance), progress=False)
    assert r.converged and r.evaluations < 400
    assert r.trace[-1]["reverse_kl"] < 1e-8


def test_odd_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size must be even, not 3"):
        ScoreVI(4, 3, None)


def test_memory_grows_on_contradiction_and_shrinks_on_the_way():
    method = ScoreVI(4, None, None)
    method._grow_older(None, clipped=False)
    for i in range(200):
        method._grow_older(-0.1 if i % 2 else 0.1, clipped=True)
    assert method._age == 100 and method._caution == 1
    for _ in range(20):
        method._grow_older(0.9, clipped=True)
    assert method._age < 1 and method._caution == 0.01
    method._grow_older(0.0, clipped=True)
    assert method._caution == 1


@pytest.mark.parametrize("diagonal", [False, True])
def test_fresh_samples_confirm_a_step_towards_the_target_and_contradict_one_away(diagonal):
    target = Gaussian(torch.ones(3).double(), torch.eye(3).double() / 2)
    q = Gaussian(torch.zeros(3).double(), torch.ones(3).double() if diagonal else torch.eye(3).double())
    method = ScoreVI(3, None, None)
    z = method.noise(0, 0)
    assert method._alignment(q, z, target.score(q.transform(z))) is None
    change = torch.ones(3).double() if diagonal else torch.eye(3).double().flatten()
    method._last = torch.cat([torch.ones(3).double(), change])
    assert method._alignment(q, z, target.score(q.transform(z))) > 0.9
    method._last = -method._last
    assert method._alignment(q, z, target.score(q.transform(z))) < -0.9


def test_minibatch_noise_far_from_the_target_is_averaged_out():
    """
    The score's noise depends on where it is taken, as a mini-batch's does, and is larger than the score near the
    target. A memory that took its own noise for a way to go would never grow.
    """
    target = random_gaussian(10)
    generator = torch.Generator().manual_seed(1)
    unit = torch.linalg.cholesky(target.precision)

    def score(x):
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64) @ unit.T
        return target.score(x) + 4 * noise * (1 + target.whiten(x).norm(dim=1, keepdim=True) / 10)

    r = fit(score=score, dim=10, init_std=5.0, max_evaluations=20_000, tolerance=0,
            reference=(target.mean, target.covariance), progress=False)  # fmt: skip
    # Noise of variance 16 to 27 in each coordinate, over 20,000 samples; D(D+1)/8 + D/2 entries' share in nats.
    assert r.trace[-1]["reverse_kl"] < 4 * 27 * (10 * 11 / 8 + 5) / 20_000
