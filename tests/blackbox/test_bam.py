import math

import pytest
import torch

from hf_scorevi.blackbox import Gaussian, fit
from hf_scorevi.blackbox.bam import bam_matrices, bam_update, bam_update_diagonal
from hf_scorevi.blackbox.noise import normal_noise
from tests.blackbox.targets import random_gaussian


def problem(dim: int, batch: int):
    q = random_gaussian(dim, 1)
    return q, q.sample(batch, 2), normal_noise(batch, dim, 3)


@pytest.mark.parametrize(("dim", "batch", "reg"), [(3, 8, 2.0), (6, 3, 10.0), (6, 1, 0.1), (1, 4, 1.0)])
def test_residual_of_the_matrix_equation(dim, batch, reg):
    q, x, g = problem(dim, batch)
    for low_rank in (False, True):
        _, s = bam_update(q.mean, q.covariance, x, g, reg, low_rank)
        root, v = bam_matrices(q.mean, q.covariance, x, g, reg)
        residual = s @ (root @ root.T) @ s + s - v
        assert residual.norm() < 1e-9 * max(1.0, v.norm().item())


@pytest.mark.parametrize("dim", [1, 4, 9])
def test_low_rank_form_is_the_dense_form(dim):
    q, x, g = problem(dim, 3)
    dense = bam_update(q.mean, q.covariance, x, g, 5.0, low_rank=False)
    low = bam_update(q.mean, q.covariance, x, g, 5.0, low_rank=True)
    for a, b in zip(dense, low, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_closed_form_minimises_its_objective():
    """D̂(q) + (2/reg) KL(q_t‖q) at the closed form, against 2,000 perturbations of mean and factor."""
    dim, reg = 3, 1.5
    q, x, g = problem(dim, 5)

    def objective(new: Gaussian) -> float:
        residual = new.score(x) - g
        return ((residual @ new.factor).square().sum(1).mean() + 2 / reg * q.kl(new)).item()

    best = Gaussian.from_covariance(*bam_update(q.mean, q.covariance, x, g, reg))
    at_best = objective(best)
    generator = torch.Generator().manual_seed(0)
    for i in range(2000):
        size = 10 ** (-3 + 2.5 * i / 2000)
        step = size * torch.randn(dim + 1, dim, generator=generator, dtype=torch.float64)
        assert objective(Gaussian(best.mean + step[0], best.scale @ (torch.eye(dim) + step[1:].tril()))) > at_best


def test_diagonal_form_is_the_one_dimensional_form():
    x, g = normal_noise(3, 4, 1), normal_noise(3, 4, 2)
    mean, variance = normal_noise(1, 4, 3)[0], torch.linspace(0.5, 2, 4).double()
    new_mean, new_variance = bam_update_diagonal(mean, variance, x, g, 2.0)
    for i in range(4):
        m, v = bam_update(mean[i : i + 1], variance[i].view(1, 1), x[:, i : i + 1], g[:, i : i + 1], 2.0)
        torch.testing.assert_close(new_mean[i], m[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(new_variance[i], v[0, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("nu", [0.25, 1.0, 4.0])
def test_a_noisy_score_shrinks_the_variance_as_predicted(nu):
    """σ² = [−ν + √(ν² + 4λ²)]/(2λ²) at λ = 1: why score_vi does not weight its norm by the new covariance."""
    generator = torch.Generator().manual_seed(0)

    def score(x):
        return -x + math.sqrt(nu) * torch.randn(x.shape, generator=generator, dtype=torch.float64)

    r = fit(score=score, dim=1, method="bam", batch_size=4000, proximal_weight=0.5, max_evaluations=200_000,
            progress=False)  # fmt: skip
    assert r.covariance.item() == pytest.approx((-nu + math.sqrt(nu**2 + 4)) / 2, rel=0.1)
