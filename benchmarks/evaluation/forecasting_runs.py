"""The runs of the forecasting benchmark: how each method trains a network, and what its predictive is."""

import contextlib
import io
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EarlyStoppingCallback, EvalPrediction, Trainer, TrainingArguments, set_seed

from benchmarks.evaluation.forecasting_tasks import Data, Task, new_model
from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer, ScoreVITrainingArguments
from hf_scorevi.inference import NoiseVariance, WindowNoise
from hf_scorevi.predictive import GaussianNoise
from hf_scorevi.time_series import SlidingWindows

METHODS = {
    "adamw": "AdamW, one variance",
    "adamw_window": "AdamW",
    "mc_dropout": "MC-dropout",
    "ensemble": "deep ensemble",
    "advi": "ADVI",
    "advi_stl": "STL-ADVI",
    "score_vi": "ScoreVI",
}
OBJECTIVES = {"advi": "elbo", "advi_stl": "elbo_stl", "score_vi": "score"}
MEMBERS = 5
NUM_SAMPLES = 16
OBSERVATIONS_PER_WEIGHT = 10
BATCH, EVAL_BATCH = 32, 256
LEARNING_RATE = 1e-3
PATIENCE = 3  # evaluations, one an epoch
STOPPING_SAMPLES = 4  # draws of each of them, of a posterior
NOISE_WINDOWS = 1000  # of training, spread evenly, that a baseline's noise is fitted to


@dataclass
class Outcome:
    """A method's predictive for the test windows: components (S, N, H, C), noise variance of that shape less S."""

    samples: Tensor
    variance: Tensor
    gradient_evaluations: int
    epochs: float
    validation_mse: float
    seconds: dict[str, float] = field(default_factory=dict)


def arguments(cls: type[TrainingArguments], folder: Path, seed: int, epochs: int, **more: Any) -> Any:
    """What all methods share: the best of all epochs by validation error."""
    return cls(
        str(folder),
        num_train_epochs=epochs,
        learning_rate=LEARNING_RATE,
        max_grad_norm=0.0,
        seed=seed,
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=EVAL_BATCH,
        label_names=["future_values"],
        eval_strategy="epoch",
        save_strategy="epoch",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="mse",
        greater_is_better=False,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        **more,
    )


def fit(trainer: Any, data: Data) -> dict[str, float]:
    """Trains at a rate that halves after each epoch; epochs, optimizer steps and the best validation error."""
    steps = math.ceil(len(data.train) / BATCH)
    optimizer = trainer.create_optimizer()
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 ** (step // steps))
    with contextlib.redirect_stdout(io.StringIO()):  # the Trainer prints its last log even when silent
        trainer.train()
    trainer.model.eval()
    found = [log["eval_mse"] for log in trainer.state.log_history if "eval_mse" in log]
    return {"epochs": trainer.state.epoch, "steps": trainer.state.global_step, "validation_mse": min(found)}


def mean_squared_error(evaluation: EvalPrediction) -> dict[str, float]:
    predicted: Any = evaluation.predictions
    predicted = predicted[0] if isinstance(predicted, tuple) else predicted
    return {"mse": float(np.square(predicted - evaluation.label_ids).mean())}


def train_point(model: Any, data: Data, folder: Path, seed: int, epochs: int) -> dict[str, float]:
    """Ordinary training by AdamW, without weight decay, as Koopa's scripts."""
    trainer = Trainer(
        model,
        arguments(TrainingArguments, folder, seed, epochs),
        train_dataset=data.train,
        eval_dataset=data.validation,
        compute_metrics=mean_squared_error,
        callbacks=[EarlyStoppingCallback(PATIENCE)],
    )
    return fit(trainer, data)


def temperature(model: nn.Module, data: Data) -> float:
    """OBSERVATIONS_PER_WEIGHT pseudo-observations a weight."""
    weights = sum(p.numel() for p in model.parameters())
    return min(1.0, data.train.num_targets / (OBSERVATIONS_PER_WEIGHT * weights))


def train_bayesian(
    method: str, model: Any, data: Data, folder: Path, seed: int, epochs: int
) -> tuple[dict[str, float], BayesianModel]:
    """By the library's defaults but for the temperature; the model is loaded from the checkpoint."""
    args = arguments(
        ScoreVITrainingArguments,
        folder,
        seed,
        epochs,
        objective=OBJECTIVES[method],
        eval_num_samples=STOPPING_SAMPLES,
    )
    if method == "score_vi":
        budget = epochs * math.ceil(len(data.train) / BATCH)
        args.max_steps = budget_steps(budget, args.curvature_interval)
    trainer = ScoreVITrainer(
        model,
        args,
        train_dataset=data.train,
        eval_dataset=data.validation,
        posterior_config=PosteriorConfig(temperature=temperature(model, data)),
        callbacks=[EarlyStoppingCallback(PATIENCE)],
    )
    found = fit(trainer, data)
    if method == "score_vi":
        found["steps"] += math.ceil(found["steps"] / args.curvature_interval)  # each of these is run twice
    trainer.save_model(str(folder / "best"))
    return found, BayesianModel.from_pretrained(folder / "best")


def budget_steps(gradient_evaluations: int, curvature_interval: int) -> int:
    """Optimizer steps that use up so many gradient evaluations, counting a curvature step twice."""
    steps = gradient_evaluations
    while steps + math.ceil(steps / curvature_interval) > gradient_evaluations:
        steps -= 1
    return steps


@contextlib.contextmanager
def dropout(model: nn.Module, seed: int) -> Iterator[None]:
    """The network with dropout as in training, and nothing else of training."""
    layers = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            for layer in layers:
                layer.train()
            yield
        finally:
            for layer in layers:
                layer.eval()


class Forecasts(NamedTuple):
    """Forecasts of N windows, (N, H, C), their scales, (N, 1, C), and what came, (N, H, C)."""

    values: Tensor
    scale: Tensor
    observed: Tensor


@torch.no_grad()
def forecasts(model: Any, windows: SlidingWindows, numbers: Sequence[int]) -> Forecasts:
    """Of those windows, by the weights that are in place."""
    parts = []
    for start in range(0, len(numbers), EVAL_BATCH):
        rows = [windows[i] for i in numbers[start : start + EVAL_BATCH]]
        past, future = (torch.stack([row[key] for row in rows]) for key in ("past_values", "future_values"))
        output = model(past_values=past)
        parts.append((output.prediction_outputs, output.scale, future))
    return Forecasts(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def fit_noise(components: Sequence[Forecasts], one_variance: bool) -> GaussianNoise:
    """As `ScoreVITrainer` learns it, from the residuals of forecasts of training windows by all components."""
    noise = NoiseVariance() if one_variance else WindowNoise()
    for found in components:
        squares = (found.observed - found.values).square()
        if isinstance(noise, NoiseVariance):
            noise.observe(squares)
        else:
            noise.observe(squares, found.scale)
    noise.update()
    if isinstance(noise, NoiseVariance):
        assert noise.value is not None
        return GaussianNoise(noise.value)
    assert noise.factor is not None
    return GaussianNoise(noise.factor, noise.floor)


def baseline(
    method: str, members: Sequence[Any], seed: int, data: Data, trained: Sequence[dict[str, float]]
) -> Outcome:
    """One forecast of each member, or some with dropout; the noise is fitted to the same components."""
    began = time.perf_counter()
    draws = NUM_SAMPLES if method == "mc_dropout" else 0
    if method != "ensemble":
        members, trained = members[:1], trained[:1]

    def components(windows: SlidingWindows, numbers: Sequence[int]) -> list[Forecasts]:
        found = []
        for member in members:
            for draw in range(draws or 1):
                with dropout(member, seed * NUM_SAMPLES + draw) if draws else contextlib.nullcontext():
                    found.append(forecasts(member, windows, numbers))
        return found

    some = np.linspace(0, len(data.train) - 1, min(NOISE_WINDOWS, len(data.train))).round().astype(int).tolist()
    noise = fit_noise(components(data.train, some), one_variance=method == "adamw")
    found = components(data.test, range(len(data.test)))
    return Outcome(
        torch.stack([component.values for component in found]),
        noise.of(found[0].values, found[0].scale),
        int(sum(run["steps"] for run in trained)),
        sum(run["epochs"] for run in trained) / len(trained),
        sum(run["validation_mse"] for run in trained) / len(trained),
        {"training": sum(run["seconds"] for run in trained), "prediction": time.perf_counter() - began},
    )


def run_points(
    methods: Sequence[str], name: str, task: Task, data: Data, folder: Path, seed: int, epochs: int
) -> dict[str, Outcome]:
    """AdamW, dropout and ensemble; the first network of the ensemble is that of the other two."""
    members, trained = [], []
    for number in range(MEMBERS if "ensemble" in methods else 1):
        own = seed + 1000 * number
        set_seed(own)
        model = new_model(name, task, data)
        began = time.perf_counter()
        found = train_point(model, data, folder, own, epochs)
        members.append(model)
        trained.append(found | {"seconds": time.perf_counter() - began})
    return {method: baseline(method, members, seed, data, trained) for method in methods}


def run_bayesian(method: str, name: str, task: Task, data: Data, folder: Path, seed: int, epochs: int) -> Outcome:
    """A posterior, and its predictive with the noise that was learned with it."""
    set_seed(seed)
    model = new_model(name, task, data)
    began = time.perf_counter()
    found, bayesian = train_bayesian(method, model, data, folder, seed, epochs)
    marks = [time.perf_counter()]
    predictive: Any = bayesian.predict_dataset(
        data.test,
        batch_size=EVAL_BATCH,
        num_samples=NUM_SAMPLES,
        seed=seed,
        return_samples=True,
        quantile_levels=(0.5,),
    )
    seconds = {"training": marks[0] - began, "prediction": time.perf_counter() - marks[0]}
    return Outcome(
        predictive.samples,
        predictive.aleatoric_variance,
        int(found["steps"]),
        found["epochs"],
        found["validation_mse"],
        seconds,
    )
