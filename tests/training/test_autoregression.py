"""A linear autoregression, whose posterior and noise variance are known: the scale of a forecaster's likelihood."""

import pytest
import torch
from torch import nn

from hf_scorevi import PosteriorConfig, ScoreVITrainer
from tests.tiny_models import Examples, arguments

LAGS, WINDOWS, PRIOR_STD = 3, 120, 0.5


class LinearForecaster(nn.Module):
    """Each step of the horizon from the last values of the same channel, by weights that channels share."""

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((horizon, LAGS), 0.1))

    def forward(self, past_values, future_values=None):
        outputs = {"prediction_outputs": torch.einsum("blc,hl->bhc", past_values, self.weight)}
        if future_values is not None:
            outputs = {"loss": nn.functional.mse_loss(outputs["prediction_outputs"], future_values)} | outputs
        return outputs


def windows(horizon: int, channels: int) -> tuple[Examples, torch.Tensor]:
    """Windows that do not overlap, with noise of another variance in each channel, and that variance."""
    generator = torch.Generator().manual_seed(horizon * 10 + channels)
    past = torch.randn(WINDOWS, LAGS, channels, generator=generator)
    truth = torch.randn(horizon, LAGS, generator=generator)
    variance = torch.linspace(0.2, 0.8, channels)
    noise = variance.sqrt() * torch.randn(WINDOWS, horizon, channels, generator=generator)
    return Examples(past_values=past, future_values=torch.einsum("blc,hl->bhc", past, truth) + noise), variance


def fixed_point(data: Examples, granularity: str, weight: float = 1.0):
    """
    The mean-field posterior's mean and precision, (H, P), and the noise variance E_q[r²], each given the other.

    `weight`: of the likelihood.
    """
    past, future = (data.columns[name].double() for name in ("past_values", "future_values"))
    horizon, channels = future.shape[1:]
    over = {"model": (0, 1, 2), "channel": (0, 1), "horizon": (0, 2), "element": (0,)}[granularity]
    variance = torch.ones(horizon, channels, dtype=torch.float64)
    for _ in range(200):
        gram = torch.einsum("blc,bkc,hc->hlk", past, past, weight / variance)
        precision = gram + torch.eye(LAGS, dtype=torch.float64) / PRIOR_STD**2
        mean = torch.linalg.solve(precision, torch.einsum("blc,bhc,hc->hl", past, future, weight / variance))
        diagonal = precision.diagonal(dim1=1, dim2=2)
        residual = (future - torch.einsum("blc,hl->bhc", past, mean)).square()
        squares = residual + torch.einsum("blc,hl->bhc", past.square(), 1 / diagonal)
        variance = squares.mean(over, keepdim=True)[0].expand(horizon, channels)
    return mean, diagonal, variance


def fit(folder, data, batch_size, steps, **config) -> ScoreVITrainer:
    horizon = data.columns["future_values"].shape[1]
    trainer = ScoreVITrainer(
        LinearForecaster(horizon),
        arguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=batch_size,
            learning_rate=0.05,
            lr_scheduler_type="linear",
            curvature_interval=1,
            mc_samples=2,
            max_grad_norm=0,
        ),
        train_dataset=data,
        posterior_config=PosteriorConfig(
            **{"family": "diagonal", "prior_mean": "zero", "prior_std": PRIOR_STD, "temperature": 1.0} | config
        ),
    )
    trainer.train()
    return trainer


def check(trainer, expected, tolerance=0.03):
    mean, precision, variance = expected
    got = trainer.posterior.precision["weight"].double()
    torch.testing.assert_close(got, precision, rtol=tolerance, atol=0)
    # of the weight, or, for one near zero, of the posterior's width
    error = (trainer.model.weight.detach().double() - mean).abs()
    assert (error <= tolerance * mean.abs().clamp_min(5 * precision.rsqrt())).all(), error
    noise = trainer.likelihood.noise.value.expand_as(variance)
    torch.testing.assert_close(noise, variance, rtol=tolerance, atol=0)


@pytest.mark.parametrize(
    ("horizon", "channels", "batch_size", "steps"),
    [
        *((horizon, channels, WINDOWS, 200) for horizon in (1, 8) for channels in (1, 5)),
        (1, 5, WINDOWS // 4, 750),
        (8, 1, WINDOWS // 4, 1500),
    ],
)
def test_weights_and_noise_whatever_batch_horizon_and_channels(tmp_path, horizon, channels, batch_size, steps):
    data, _ = windows(horizon, channels)
    trainer = fit(tmp_path, data, batch_size, steps, noise_variance="model")
    assert trainer.likelihood.num_data == WINDOWS * horizon * channels
    check(trainer, fixed_point(data, "model"))


@pytest.mark.parametrize(("granularity", "steps"), [("channel", 450), ("horizon", 900), ("element", 900)])
def test_a_variance_for_each_channel_or_step_weighs_them(tmp_path, granularity, steps):
    data, _ = windows(4, 3)
    trainer = fit(tmp_path, data, WINDOWS, steps, noise_variance=granularity)
    check(trainer, fixed_point(data, granularity))


def test_the_temperature_leaves_the_noise_its_own(tmp_path):
    """The optimum of σ² does not know of T, but for what T does to the weights."""
    data, _ = windows(4, 3)
    trainer = fit(tmp_path, data, WINDOWS, 300, noise_variance="model", temperature=4.0)
    check(trainer, fixed_point(data, "model", weight=0.25))


def test_a_variance_that_is_given_stays(tmp_path):
    data, _ = windows(2, 2)
    trainer = fit(tmp_path, data, WINDOWS, 5, noise_variance=0.3)
    assert trainer.likelihood.noise.value.item() == 0.3
    assert trainer.likelihood.weight == pytest.approx(WINDOWS * 4 / 0.6)


def test_a_baseline_learns_it_too(tmp_path):
    data, _ = windows(2, 2)
    trainer = ScoreVITrainer(
        LinearForecaster(2),
        arguments(tmp_path, max_steps=800, per_device_train_batch_size=WINDOWS, learning_rate=0.03, max_grad_norm=0,
                  mc_samples=2, lr_scheduler_type="linear", objective="elbo_stl", antithetic=True),
        train_dataset=data,
        posterior_config=PosteriorConfig(family="diagonal", prior_mean="zero", prior_std=PRIOR_STD, temperature=1.0,
                                         noise_variance="model"),
    )  # fmt: skip
    trainer.train()
    check(trainer, fixed_point(data, "model"))


def test_a_model_that_shows_no_forecast_keeps_the_variance_of_its_loss(tmp_path):
    class LossAlone(LinearForecaster):
        def forward(self, past_values, future_values=None):
            return {"loss": super().forward(past_values, future_values)["loss"]}

    data, _ = windows(2, 2)
    trainer = ScoreVITrainer(
        LossAlone(2),
        arguments(tmp_path, max_steps=3),
        train_dataset=data,
        posterior_config=PosteriorConfig(noise_variance="model"),
    )
    trainer.train()
    assert trainer.likelihood.measured is None
    assert trainer.likelihood.predictive_noise.variance == trainer.likelihood.noise.value > 0
