"""Bayesian linear regression: the whole trainer against a posterior that is known in closed form."""

import pytest
import torch

from hf_scorevi import PosteriorConfig, ScoreVITrainer
from tests.tiny_models import Examples, LinearRegression, arguments

FEATURES, N, NOISE_VARIANCE, PRIOR_STD = 6, 200, 0.25, 0.8


@pytest.fixture(scope="module")
def problem():
    generator = torch.Generator().manual_seed(0)
    scales = torch.linspace(0.6, 1.4, FEATURES)
    x = torch.randn(N, FEATURES, generator=generator) * scales
    x[:, 1] += 0.3 * x[:, 0]  # correlated: the mean-field precision is the diagonal of Λ, not 1/variance
    truth = torch.linspace(-1, 1.5, FEATURES)
    y = x @ truth + NOISE_VARIANCE**0.5 * torch.randn(N, generator=generator)
    precision = x.double().T @ x.double() / NOISE_VARIANCE + torch.eye(FEATURES).double() / PRIOR_STD**2
    mean = torch.linalg.solve(precision, x.double().T @ y.double() / NOISE_VARIANCE)
    return Examples(x=x, labels=y), mean, precision


def fit(folder, data, family, batch_size, steps, settings=None, **config) -> ScoreVITrainer:
    defaults = {"learning_rate": 0.02, "lr_scheduler_type": "linear", "curvature_interval": 1, "mc_samples": 2}
    batches = {"max_steps": steps, "per_device_train_batch_size": batch_size, "max_grad_norm": 0}
    trainer = ScoreVITrainer(
        LinearRegression(FEATURES, NOISE_VARIANCE),
        arguments(folder, **(defaults | batches | (settings or {}))),
        train_dataset=data,
        posterior_config=PosteriorConfig(
            family=family, prior_mean="zero", prior_std=PRIOR_STD, temperature=1.0, **config
        ),
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(("batch_size", "steps", "tolerance"), [(N, 800, 0.02), (N // 10, 1500, 0.05)])
def test_diagonal_recovers_mean_and_precision(tmp_path, problem, batch_size, steps, tolerance):
    data, mean, matrix = problem
    precision = matrix.diagonal()
    trainer = fit(tmp_path, data, "diagonal", batch_size, steps)
    got_mean, got = trainer.model.weight.detach().double(), trainer.posterior.precision["weight"].double()
    assert trainer.likelihood.weight == N
    assert torch.allclose(got, precision, rtol=tolerance, atol=0)
    # 2 % of the weight and, for a weight near zero, of the largest one
    assert torch.allclose(got_mean, mean, rtol=tolerance, atol=tolerance * mean.abs().max().item() / 10)


def test_isotropic_recovers_the_average_precision(tmp_path, problem):
    data, mean, matrix = problem
    precision = matrix.diagonal()
    trainer = fit(tmp_path, data, "isotropic", N, 600)
    assert trainer.posterior.precision["weight"].item() == pytest.approx(precision.mean().item(), rel=0.02)
    assert torch.allclose(trainer.model.weight.detach().double(), mean, rtol=0.02, atol=2e-3)


def test_temperature_scales_the_likelihood_alone(tmp_path, problem):
    data, _, matrix = problem
    precision = matrix.diagonal()
    prior = PRIOR_STD**-2
    trainer = ScoreVITrainer(
        LinearRegression(FEATURES, NOISE_VARIANCE),
        arguments(
            tmp_path,
            max_steps=600,
            per_device_train_batch_size=N,
            learning_rate=0.02,
            curvature_interval=1,
            mc_samples=2,
        ),
        train_dataset=data,
        posterior_config=PosteriorConfig(prior_mean="zero", prior_std=PRIOR_STD, temperature=0.1),
    )
    trainer.train()
    expected = (10 * (precision - prior) + prior).mean().item()
    assert trainer.posterior.precision["weight"].item() == pytest.approx(expected, rel=0.03)


def test_a_squared_error_with_known_noise_is_the_same_posterior(tmp_path, problem):
    """A user's own model with a plain MSE loss, and noise_variance in the configuration."""
    data, mean, matrix = problem
    precision = matrix.diagonal()

    class SquaredError(LinearRegression):
        def forward(self, x, labels):
            prediction = x @ self.weight
            return {"loss": (prediction - labels).square().mean(), "logits": prediction}

    trainer = ScoreVITrainer(
        SquaredError(FEATURES, NOISE_VARIANCE),
        arguments(tmp_path, max_steps=800, per_device_train_batch_size=N, learning_rate=0.02, curvature_interval=1,
                  mc_samples=2, lr_scheduler_type="linear", max_grad_norm=0),
        train_dataset=data,
        posterior_config=PosteriorConfig(family="diagonal", prior_mean="zero", prior_std=PRIOR_STD, temperature=1.0,
                                         noise_variance=NOISE_VARIANCE),
    )  # fmt: skip
    trainer.train()
    assert trainer.likelihood.kind == "gaussian"
    assert torch.allclose(trainer.posterior.precision["weight"].double(), precision, rtol=0.02, atol=0)
    assert torch.allclose(trainer.model.weight.detach().double(), mean, rtol=0.02, atol=3e-3)


@pytest.mark.parametrize(("objective", "antithetic"), [("elbo", False), ("elbo", True), ("elbo_stl", False)])
def test_the_elbo_baselines_find_the_same_posterior(tmp_path, problem, objective, antithetic):
    data, mean, matrix = problem
    precision = matrix.diagonal()
    trainer = ScoreVITrainer(
        LinearRegression(FEATURES, NOISE_VARIANCE),
        arguments(
            tmp_path,
            objective=objective,
            antithetic=antithetic,
            max_steps=1000,
            mc_samples=2 if antithetic else 4,
            per_device_train_batch_size=N,
            learning_rate=0.03,
            lr_scheduler_type="cosine",
            max_grad_norm=0,
        ),
        train_dataset=data,
        posterior_config=PosteriorConfig(
            family="diagonal", prior_mean="zero", prior_std=PRIOR_STD, temperature=1.0, init_std=2.0
        ),
    )
    trainer.train()
    # Adam on single samples leaves some noise in log σ, of the order of the last learning rates
    assert torch.allclose(trainer.posterior.precision["weight"].double(), precision, rtol=0.1, atol=0)
    assert torch.allclose(trainer.model.weight.detach().double(), mean, rtol=0.05, atol=0.01)


def dense_precision(trainer: ScoreVITrainer) -> torch.Tensor:
    return torch.stack([trainer.posterior.family.multiply(0, e) for e in torch.eye(FEATURES)]).double()


@pytest.mark.parametrize("settings", [{}, {"objective": "elbo_stl", "antithetic": True, "learning_rate": 0.06}])
def test_full_recovers_the_posterior_itself(tmp_path, problem, settings):
    """Covariances and all: the variance of x₀'s weight is a tenth more than a diagonal precision would say."""
    data, mean, matrix = problem
    settings = {"learning_rate": 0.04} | settings
    trainer = fit(tmp_path, data, "full", N, 500, settings, init_std=1.0 if "objective" in settings else 0.01)
    got = dense_precision(trainer)
    assert (got - matrix).norm() < 0.02 * matrix.norm()
    variance = torch.linalg.inv(matrix).diagonal()
    assert (variance * matrix.diagonal()).max() > 1.09
    assert torch.allclose(trainer.posterior.family.variance(0).double(), variance, rtol=0.04)
    assert torch.allclose(trainer.model.weight.detach().double(), mean, rtol=0.02, atol=4e-3)


def test_low_rank_comes_closer_than_the_best_diagonal(tmp_path, problem):
    data, _, matrix = problem
    got = dense_precision(fit(tmp_path, data, "low_rank", N, 1500, rank=2))

    def reverse_kl(precision: torch.Tensor) -> float:
        trace = torch.trace(torch.linalg.solve(precision, matrix))
        return 0.5 * (trace - FEATURES + precision.logdet() - matrix.logdet()).item()

    assert reverse_kl(got) < 0.6 * reverse_kl(matrix.diagonal().diag())


@pytest.mark.parametrize(("proximal", "score_norm"), [("forward", "none"), ("reverse", "precision")])
def test_the_papers_inner_loop_finds_the_same_posterior(tmp_path, problem, proximal, score_norm):
    data, mean, matrix = problem
    settings = {"update": "gradient", "proximal": proximal, "score_norm": score_norm, "inner_learning_rate": 0.01}
    trainer = fit(tmp_path, data, "diagonal", N, 800, settings)
    assert torch.allclose(trainer.posterior.precision["weight"].double(), matrix.diagonal(), rtol=0.03, atol=0)
    assert torch.allclose(trainer.model.weight.detach().double(), mean, rtol=0.02, atol=3e-3)
