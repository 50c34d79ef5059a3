import math

import pytest
import torch

from hf_scorevi.blackbox import Gaussian, fit
from hf_scorevi.blackbox.gradient import GradientScoreVI, whitened_objective
from hf_scorevi.blackbox.noise import normal_noise
from hf_scorevi.inference import proximal_objective
from tests.blackbox.targets import random_gaussian


def test_the_objective_is_that_of_the_diagonal_form():
    """For a diagonal q the whitened objective equals `inference.objective`'s, up to its constant D."""
    d, kappa = 4, 0.7
    frozen = Gaussian(normal_noise(1, d, 0)[0], normal_noise(1, d, 1)[0].exp())
    new = Gaussian(normal_noise(1, d, 2)[0], normal_noise(1, d, 3)[0].exp())
    z, scores = normal_noise(6, d, 4), normal_noise(6, d, 5)
    ratio = (frozen.scale / new.scale).square()
    shift = ratio * (new.mean - frozen.mean) / frozen.scale
    got = whitened_objective(ratio.sqrt().diag(), shift, z, scores * frozen.scale, kappa)
    expected = proximal_objective(
        new.mean,
        new.scale**-2,
        frozen.mean,
        frozen.scale**-2,
        frozen.transform(z),
        scores,
        kappa,
    )
    assert got.item() == pytest.approx(expected.item(), rel=1e-12)


def test_at_the_frozen_iterate_the_gradient_is_sticking_the_landing():
    """2 times for c and, as for log σ, 4 times the halved symmetric part for T: sample by sample."""
    from hf_scorevi.blackbox.advi import negative_elbo_gradient

    q = random_gaussian(3)
    z, score = normal_noise(1, 3, 7), normal_noise(1, 3, 8)
    factor, shift = torch.eye(3).double().requires_grad_(), torch.zeros(3).double().requires_grad_()
    loss = whitened_objective(factor, shift, z, score @ q.scale, 2.0)
    by_factor, by_shift = torch.autograd.grad(loss, (factor, shift))
    by_mean, _ = negative_elbo_gradient(q, z, score, stl=True)
    # With c = A b and A = I, ∂/∂b = ∂/∂c, and b = L⁻¹(m − m_t).
    torch.testing.assert_close(by_shift, 2 * q.scale.T @ by_mean, rtol=1e-12, atol=1e-12)
    # The path derivative by Lᵀ's left-invariant direction is −(z + u) zᵀ for a precision factor: symmetrised, twice.
    path = (z + score @ q.scale).T @ z
    torch.testing.assert_close(by_factor, 2 * (path + path.T), rtol=1e-12, atol=1e-12)


def test_inner_steps_minimise_the_objective():
    q, kappa = random_gaussian(3), 2.0
    method = GradientScoreVI(3, 16, 0.05, kappa, 16 * 10)
    z = method.noise(0, 0)
    u = random_gaussian(3, seed=1).score(q.transform(z)) @ q.scale
    new = method.step(q, z, u @ torch.linalg.inv(q.scale))
    a = q.scale.T @ new.precision @ q.scale
    factor, shift = torch.linalg.cholesky(a), a @ q.whiten(new.mean[None])[0]
    before = whitened_objective(torch.eye(3).double(), torch.zeros(3).double(), z, u, kappa)
    assert whitened_objective(factor, shift, z, u, kappa) < before - 0.5


def test_a_noisy_score_biases_nothing():
    """N(0, 1) with noise of variance 4, where BaM settles at variance .24; here within Adam's own jitter."""
    generator = torch.Generator().manual_seed(1)

    def score(x):
        return -x + 2 * torch.randn(x.shape, generator=generator, dtype=torch.float64)

    r = fit(score=score, dim=1, method="score_vi_gradient", batch_size=256, max_evaluations=200_000, tolerance=0,
            progress=False)  # fmt: skip
    # 4 standard errors of a variance from the samples of the last tenth of the schedule, where the rate is small.
    assert r.covariance.item() == pytest.approx(1, abs=4 * math.sqrt(2 * 5 / 20_000))


def test_odd_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size must be even, not 3"):
        GradientScoreVI(4, 3, None, None, 100)
