"""Forecasters of transformers and Koopa under `ScoreVITrainer`: their figures are what the draws themselves give."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.special import logsumexp, poch

from hf_scorevi import BayesianModel, ForecastOutput, NonFiniteLossError, PosteriorConfig, ScoreVITrainer
from hf_scorevi.inference.curvature import FORGETTING
from hf_scorevi.metrics import crps_gaussian_mixture, mixture_nll, mse_mae
from hf_scorevi.posterior import draw_seed
from hf_scorevi.predictive import COVERAGES, mixture_quantiles
from hf_scorevi.time_series import SlidingWindows, calendar_features, windows_for
from tests.densities import log_densities, outputs_and_parameters
from tests.forecasters import (
    CONTEXT,
    HORIZON,
    processor_of,
    series,
    tiny_autoformer,
    tiny_informer,
    tiny_koopa,
    tiny_mixer,
    tiny_patchtst,
    tiny_transformer,
)
from tests.tiny_models import Examples, arguments

TRAIN_ROWS, DRAWS = 60, 3
GRANULARITIES = {"window": (), "model": (), "channel": (2,), "horizon": (HORIZON, 1), "element": (HORIZON, 2)}


def tiny_lora(channels=2):
    """Without batch normalisation, whose statistics an adapter's file does not hold."""
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    return get_peft_model(tiny_patchtst(channels, norm_type="layernorm"), config)


def with_density(make):
    return lambda channels=2, **settings: make(channels, loss="nll", distribution_output="student_t", **settings)


GAUSSIAN = {"koopa": tiny_koopa, "patchtst": tiny_patchtst, "mixer": tiny_mixer, "lora": tiny_lora}
DENSITY = {
    "patchtst-nll": with_density(tiny_patchtst),
    "mixer-nll": with_density(tiny_mixer),
    "transformer": tiny_transformer,
    "informer": tiny_informer,
    "autoformer": tiny_autoformer,
}


def windows(config, channels=2) -> tuple[SlidingWindows, SlidingWindows]:
    """Of the first rows of the series, and of those after them."""
    frame = series(channels=channels)
    values = processor_of(frame[:TRAIN_ROWS]).standardize(frame)
    times = calendar_features(frame.index)
    rest = len(values) - CONTEXT - HORIZON - 12  # about ten windows
    return tuple(
        windows_for(config, values[rows], time_features=times[rows] if hasattr(config, "lags_sequence") else None)
        for rows in (slice(TRAIN_ROWS), slice(rest, None))
    )


def trainer_of(folder, model, config=None, channels=2, data=None, **settings) -> ScoreVITrainer:
    train, held_out = data or windows(model.config, channels)
    return ScoreVITrainer(
        model,
        arguments(
            folder, **{"max_steps": 3, "eval_num_samples": DRAWS, "curvature_interval": 2, "seed": 5} | settings
        ),
        train_dataset=train,
        eval_dataset=held_out,
        posterior_config=config or PosteriorConfig(init_std=0.1),
    )


def trained(folder, model, config=None, **settings) -> ScoreVITrainer:
    trainer = trainer_of(folder, model, config, **settings)
    trainer.train()
    return trainer


def batch_of(data) -> dict[str, torch.Tensor]:
    rows = [data[i] for i in range(len(data))]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def under_draws(trainer, run):
    """What `run` gives under each draw of the evaluation."""
    found = []
    for draw in range(DRAWS):
        with trainer.posterior.sampled(draw_seed(trainer.args.seed, draw)):
            found.append(run())
    return found


def variance_under(trainer, outputs) -> torch.Tensor:
    """Of the noise, by its definition, (B, H, C)."""
    noise, shape = trainer.likelihood.predictive_noise, outputs.prediction_outputs.shape
    if noise.floor is None:
        return noise.variance.expand(shape)
    return (noise.variance * (outputs.scale.double().square() + noise.floor)).expand(shape)


def gaussian_figures(means, variance, target) -> dict[str, float]:
    """Of a mixture with the components (S, B, H, C)."""
    own = means.flatten(1).T.double(), variance.double().flatten().sqrt(), target.double().flatten()
    point = mse_mae(own[0], own[2])
    figures = {"mse": point["mse"], "mae": point["mae"], "nll": mixture_nll(*own)["mixture_nll"]}
    figures["crps"] = crps_gaussian_mixture(*own)["crps_gaussian_mixture"]
    for level in COVERAGES:
        low, high = mixture_quantiles(means, variance, [(1 - level) / 2, (1 + level) / 2])
        figures[f"coverage_{100 * level:.0f}"] = ((low <= target) & (target <= high)).double().mean().item()
    return figures


def check_gaussian_figures(trainer):
    metrics, batch = trainer.evaluate(), batch_of(trainer.eval_dataset)
    model, target = trainer.model.eval(), batch["future_values"]
    with torch.no_grad():
        outputs = [model(**batch), *under_draws(trainer, lambda: model(**batch))]
    variance = variance_under(trainer, outputs[0])
    means = torch.stack([output.prediction_outputs for output in outputs])
    losses = [output.loss.item() for output in outputs[1:]]
    expected = {"loss": np.mean(losses)} | gaussian_figures(means[1:], variance, target)
    expected |= {f"mean_{name}": value for name, value in gaussian_figures(means[:1], variance, target).items()}
    found = {name: metrics[f"eval_{name}"] for name in expected}
    assert found == pytest.approx(expected, rel=1e-4)
    assert means[1:].var(0).max() > 1e-7  # the draws differ
    assert set(metrics) == {f"eval_{name}" for name in [*expected, *RUN]} | {"epoch"}


RUN = ("runtime", "samples_per_second", "steps_per_second")


@pytest.mark.parametrize("name", GAUSSIAN)
def test_gaussian_heads(tmp_path, name):
    """Count of the likelihood's terms, figures, and a data set's prediction by the trainer and from the folder."""
    trainer = trained(tmp_path, GAUSSIAN[name]())
    assert trainer.label_names == ["future_values"] and trainer.args.label_names is None
    assert trainer.likelihood.num_data == (TRAIN_ROWS - CONTEXT) * 2
    check_gaussian_figures(trainer)
    found = trainer.predict(trainer.eval_dataset)
    assert isinstance(found.predictive, ForecastOutput)
    assert found.predictions == pytest.approx(found.predictive.mean.numpy())
    trainer.save_model()
    base = tiny_patchtst(norm_type="layernorm") if name == "lora" else None
    loaded = BayesianModel.from_pretrained(tmp_path, base_model=base)
    expected = loaded.predict_dataset(trainer.eval_dataset, num_samples=DRAWS, seed=trainer.args.seed)
    for field in ("mean", "epistemic_variance", "aleatoric_variance", "quantiles"):
        torch.testing.assert_close(getattr(found.predictive, field), getattr(expected, field), rtol=2e-5, atol=1e-6)
    assert found.predictive.num_samples == expected.num_samples == DRAWS


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("patchtst-nll", 2),
        ("mixer-nll", 1),
        ("transformer", 1),
        ("transformer", 2),
        ("informer", 2),
        ("autoformer", 1),
    ],
)
def test_heads_that_model_a_distribution(tmp_path, name, channels):
    """The NLL is that of the mixture of draws, step by step, of all channels of a step together."""
    trainer = trained(tmp_path, DENSITY[name](channels), channels=channels)
    assert trainer.label_names == ["future_values"]
    assert trainer.likelihood.num_data == TRAIN_ROWS - trainer.train_dataset.context_length
    metrics, batch, model = trainer.evaluate(), batch_of(trainer.eval_dataset), trainer.model
    kind = model.config.distribution_output
    target = batch["future_values"].double().numpy()

    def steps() -> tuple[np.ndarray, float]:
        outputs, parameters = outputs_and_parameters(model, batch)
        loc, scale = outputs.loc.double().numpy(), outputs.scale.double().numpy()
        own = log_densities(kind, parameters, target, loc, scale)
        return own.reshape(*own.shape[:2], -1).sum(-1), outputs.loss.item()

    draws = under_draws(trainer, steps)
    mixture = logsumexp([own for own, _ in draws], axis=0) - np.log(DRAWS)
    expected = {"nll": -mixture.mean(), "loss": np.mean([loss for _, loss in draws]), "mean_nll": -steps()[0].mean()}
    found = {name: metrics[f"eval_{name}"] for name in expected}
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert set(metrics) == {f"eval_{name}" for name in [*expected, *RUN]} | {"epoch"}
    assert metrics["eval_loss"] > metrics["eval_nll"]  # Jensen's inequality
    prediction = trainer.predict(trainer.eval_dataset)
    assert prediction.predictions.reshape(target.shape).shape == target.shape
    assert prediction.metrics["test_nll"] == pytest.approx(metrics["eval_nll"], rel=1e-6)


def test_a_data_set_without_a_future_is_forecast_by_a_gaussian_head_alone(tmp_path):
    def past(trainer):
        rows = batch_of(trainer.eval_dataset)
        return Examples(**{name: rows[name] for name in rows if name != "future_values"})

    trainer = trained(tmp_path / "koopa", tiny_koopa())
    known = trainer.predict(trainer.eval_dataset).predictive
    assert torch.equal(trainer.predict(past(trainer)).predictive.quantiles, known.quantiles)
    trainer = trained(tmp_path / "patchtst", DENSITY["patchtst-nll"]())
    with pytest.raises(ValueError, match=r"no 'future_values'.*BayesianModel\.forecast"):
        trainer.predict(past(trainer))


class Residuals:
    """The squared residuals of each training pass and the windows' scales, with the step they belong to."""

    def __init__(self, trainer) -> None:
        self.passes = []
        self._trainer = trainer
        trainer.model.register_forward_hook(self, with_kwargs=True)

    def __call__(self, model, args, inputs, outputs) -> None:
        if model.training:
            squares = (outputs.prediction_outputs - inputs["future_values"]).detach().double().square()
            self.passes.append((self._trainer.state.global_step, squares, outputs.scale.double()))

    def averaged(self, estimate):
        """Means over the passes up to each curvature step (every second, from the first), weighted as they come."""
        ends = sorted({step for step, *_ in self.passes if step % 2 == 0})
        estimates = []
        for begin, end in zip([-1, *ends], ends, strict=False):
            own = [estimate(squares, scale) for step, squares, scale in self.passes if begin < step <= end]
            estimates.append(torch.stack(own).mean(0))
        weights = torch.from_numpy(poch(np.arange(1, len(ends) + 1), FORGETTING))
        return torch.einsum("k...,k->...", torch.stack(estimates), weights / weights.sum())


@pytest.mark.parametrize("kind", GRANULARITIES)
def test_the_noise_is_learned_from_the_residuals_of_training(tmp_path, kind):
    trainer = trainer_of(tmp_path, tiny_koopa(), PosteriorConfig(noise_variance=kind, init_std=0.1), max_steps=5)
    residuals = Residuals(trainer)
    trainer.train()
    assert [step for step, *_ in residuals.passes] == [0, 0, 1, 2, 2, 3, 4, 4]  # pairs on curvature steps
    keep = {"channel": (0, 1), "horizon": (0, 2), "element": (0,)}.get(kind, (0, 1, 2))
    shape = GRANULARITIES[kind]
    expected = residuals.averaged(lambda squares, _: squares.mean(keep).reshape(shape))
    noise = trainer.likelihood.noise
    torch.testing.assert_close(noise.value, expected, rtol=1e-5, atol=0)
    assert trainer.update.likelihood_weight == trainer.likelihood.weight
    weight = trainer.likelihood.num_data * (0.5 / expected).mean().item() / trainer.likelihood.temperature
    assert trainer.likelihood.weight == pytest.approx(weight, rel=1e-5)
    trainer.save_model()
    stored = json.loads((tmp_path / "posterior_config.json").read_text())["likelihood"]
    assert stored["kind"] == "gaussian" and np.shape(stored["noise_variance"]) == shape
    predictive = trainer.likelihood.predictive_noise
    assert stored["noise_variance"] == (noise.value if kind == "window" else predictive.variance).tolist()
    assert ("window_noise" in stored) == (kind == "window")
    check_gaussian_figures(trainer)


@pytest.mark.parametrize("kind", GRANULARITIES)
def test_the_predictive_s_is_measured_from_residuals_of_its_mean(tmp_path, kind):
    """Without dropout, and without what the variance of four draws adds to the squared residuals of their mean."""
    config = PosteriorConfig(noise_variance=kind, init_std=0.1)
    trainer = trained(tmp_path, tiny_koopa(dropout=0.5), config, per_device_eval_batch_size=64)
    batch, model = batch_of(trainer.train_dataset), trainer.model.eval()
    draws = []
    for draw in range(4):
        with torch.no_grad(), trainer.posterior.sampled(draw_seed(trainer.args.seed, draw)):
            draws.append(model(**batch))
    forecasts = torch.stack([outputs.prediction_outputs for outputs in draws]).double()
    squares = (forecasts.mean(0) - batch["future_values"]).square() - forecasts.var(0) / 4
    noise = trainer.likelihood.predictive_noise
    if kind == "window":
        scale = draws[0].scale.double().square()
        floor = 0.3 * scale.mean((0, 1))
        torch.testing.assert_close(noise.floor, floor, rtol=1e-5, atol=0)
        expected = (squares / (scale + floor)).mean((0, 2)).unsqueeze(1)
    else:
        assert noise.floor is None
        keep = {"channel": (0, 1), "horizon": (0, 2), "element": (0,)}.get(kind, (0, 1, 2))
        expected = squares.mean(keep).reshape(GRANULARITIES[kind])
    torch.testing.assert_close(noise.variance, expected, rtol=1e-4, atol=0)


def test_a_noise_that_is_given_stays(tmp_path):
    trainer = trained(tmp_path, tiny_koopa(), PosteriorConfig(noise_variance=0.2, init_std=0.1))
    assert trainer.likelihood.noise.value.item() == 0.2 and trainer.likelihood.measured is None
    check_gaussian_figures(trainer)


def everything(trainer) -> dict[str, torch.Tensor]:
    values = {f"mean.{name}": value.detach().clone() for name, value in trainer.model.state_dict().items()}
    values |= {f"precision.{name}": value.clone() for name, value in trainer.posterior.precision.items()}
    values |= {f"state.{name}": value.clone() for name, value in trainer.update.state_dict().items()}
    values |= {f"noise.{name}": value.clone() for name, value in trainer.likelihood.noise.state_dict().items()}
    values["predictive noise"] = trainer.likelihood.predictive_noise.variance
    return values


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: tiny_koopa(dropout=0.2), "window"),
        (lambda: tiny_patchtst(ff_dropout=0.2), "channel"),
    ],
    ids=["koopa", "patchtst"],
)
def test_resume_is_bit_exact_noise_included(tmp_path, make, kind):
    """From a step between two moves of the noise."""
    settings = {"max_steps": 5, "curvature_interval": 4, "save_strategy": "steps", "save_steps": 3}
    config = PosteriorConfig(noise_variance=kind, init_std=0.1)
    whole = trained(tmp_path / "whole", make(), config, **settings)
    resumed = trainer_of(tmp_path / "resumed", make(), config, **settings)
    with torch.no_grad():
        for p in resumed.model.parameters():  # a fresh process knows nothing
            p.add_(1)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    a, b = everything(whole), everything(resumed)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert any(name.startswith("noise") for name in a)
    assert whole.evaluate()["eval_nll"] == resumed.evaluate()["eval_nll"]


def test_the_best_model_s_noise_is_that_of_its_step(tmp_path):
    settings = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 6}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "nll", "greater_is_better": True}
    trainer = trained(tmp_path, tiny_koopa(), learning_rate=1e-2, **settings, **best)
    step = int(trainer.state.best_model_checkpoint.rpartition("-")[2])
    assert step < 6  # the worst, since the NLL falls
    (logged,) = [log["eval_nll"] for log in trainer.state.log_history if log["step"] == step and "eval_nll" in log]
    assert trainer.evaluate()["eval_nll"] == pytest.approx(logged, rel=1e-6)


@pytest.mark.parametrize("kind", ["window", "element"])
def test_gradient_accumulation_leaves_the_noise_as_it_is(tmp_path, kind):
    """With the same noise of the weights and the same windows in each step, all is the same up to rounding."""
    settings = {"share_noise": True, "optim": "sgd", "train_sampling_strategy": "sequential", "max_steps": 4}
    config = PosteriorConfig(noise_variance=kind, init_std=0.1)
    whole = trained(tmp_path / "whole", tiny_koopa(dropout=0.0), config, per_device_train_batch_size=8, **settings)
    split = trained(
        tmp_path / "split",
        tiny_koopa(dropout=0.0),
        config,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        **settings,
    )
    assert split.likelihood.noise.steps == 2
    torch.testing.assert_close(split.likelihood.noise.value, whole.likelihood.noise.value, rtol=1e-4, atol=0)
    for name, value in whole.posterior.precision.items():
        torch.testing.assert_close(split.posterior.precision[name], value, rtol=1e-3, atol=0)


@pytest.mark.parametrize("bad", ["future_values", "past_values"])
@pytest.mark.parametrize("make", [tiny_koopa, tiny_patchtst, with_density(tiny_mixer)], ids=["koopa", "mse", "nll"])
def test_values_that_are_missing_are_named_and_the_mean_stays(tmp_path, make, bad):
    model = make()
    rows = batch_of(windows(model.config)[0])
    rows[bad] = rows[bad].index_fill(0, torch.tensor([2]), torch.nan)
    trainer = trainer_of(tmp_path, model, data=(Examples(**rows), None), train_sampling_strategy="sequential")
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(NonFiniteLossError, match=f"at step 0.*the mean.* in {bad} that are NaN or infinite"):
        trainer.train()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_windows_of_the_user_s_own_all_count(tmp_path):
    rows = batch_of(windows(tiny_koopa().config)[0])
    trainer = trained(tmp_path, tiny_koopa(), data=(Examples(**rows), None), max_steps=1)
    assert trainer.likelihood.num_data == len(rows["past_values"]) * HORIZON * 2
