"""The runs of the forecasting benchmark: how each method's networks are trained, and what its predictive is."""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import set_seed

from benchmarks.evaluation.forecasting_tasks import Data, Task, new_model
from benchmarks.evaluation.forecasting_training import EVAL_BATCH, train_bayesian, train_point
from hf_scorevi.posterior import draw_seed
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
MEMBERS = 5
NUM_SAMPLES = 16
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


# Puts other weights, or other noise, into a network.
Draw = Callable[[Any], contextlib.AbstractContextManager[Any]]


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
    """Of the forms that `ScoreVITrainer` learns, to the squared residuals of the components' mean."""
    _, scale, observed = components[0]
    squares = (observed - torch.stack([found.values for found in components]).mean(0)).square()
    return GaussianNoise.fit(squares, "model" if one_variance else "window", scale)


def predictive(
    models: Iterable[Any], draws: Sequence[Draw], data: Data, trained: Sequence[dict[str, float]], one_variance: bool
) -> Outcome:
    """A component for each draw of each network; the noise is fitted to the same components' training forecasts."""
    began = time.perf_counter()
    some = np.linspace(0, len(data.train) - 1, min(NOISE_WINDOWS, len(data.train))).round().astype(int).tolist()
    past, found = [], []
    for model in models:
        for draw in draws:
            with draw(model):
                past.append(forecasts(model, data.train, some))
                found.append(forecasts(model, data.test, range(len(data.test))))
    noise = fit_noise(past, one_variance)
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
    outcomes = {}
    for method in methods:
        draws: list[Draw] = [contextlib.nullcontext]
        if method == "mc_dropout":
            draws = [partial(dropout, seed=seed * NUM_SAMPLES + i) for i in range(NUM_SAMPLES)]
        count = MEMBERS if method == "ensemble" else 1
        outcomes[method] = predictive(members[:count], draws, data, trained[:count], one_variance=method == "adamw")
    return outcomes


def run_bayesian(method: str, name: str, task: Task, data: Data, folder: Path, seed: int, epochs: int) -> Outcome:
    """A posterior's predictive, with noise that is fitted as all others'."""
    set_seed(seed)
    model = new_model(name, task, data)
    began = time.perf_counter()
    trained, bayesian = train_bayesian(method, model, data, folder, seed, epochs)
    trained["seconds"] = time.perf_counter() - began

    def draw(number: int) -> Draw:
        return lambda model: bayesian.posterior.sampled(draw_seed(seed, number))

    return predictive([bayesian.model], [draw(i) for i in range(NUM_SAMPLES)], data, [trained], one_variance=False)
