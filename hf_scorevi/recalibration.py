"""Fit a recalibration to held-out data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from .hub import describe_data
from .posterior import draw_seed
from .posthoc import Recalibration, Sketch, apply_temperature, example_hashes, fit_scale, fit_temperature
from .prediction import Draws, Predictor
from .predictive import Keep, PredictiveOutput

__all__ = ["fit_recalibration"]


def fit_recalibration(
    model: Predictor,
    dataset: Dataset,
    *,
    temperature: bool,
    posterior_scale: bool,
    num_samples: int,
    seed: int,
    batch_size: int,
    data_collator: Callable[[list[Any]], dict[str, Any]],
) -> Recalibration:
    """Fit as `BayesianModel.calibrate` does, and return the result without applying it."""
    if not (temperature or posterior_scale):
        raise ValueError("There is nothing to fit: say temperature=True, posterior_scale=True, or both.")
    if model.task != "classes":
        raise ValueError("Only classifiers, of one class an example, are recalibrated.")
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=batch_size, collate_fn=data_collator)
    labels, seen = _labels(model, loader)
    seeds = [draw_seed(seed, draw) for draw in range(num_samples)]
    fitted: dict[float, tuple[float, float, float]] = {}  # scale: temperature, NLL without and with it

    def nll(scale: float) -> float:
        output = model.predict_loader(loader, Draws(seeds, scale, keep=Keep(spread=False)))
        assert isinstance(output, PredictiveOutput)
        own = fit_temperature(output.log_probs, labels) if temperature else 1.0
        fitted[scale] = own, _mean_nll(output, labels, 1.0), _mean_nll(output, labels, own)
        return fitted[scale][2]

    scale = 1.0
    if posterior_scale:
        scale = fit_scale(nll)  # which tries 1 too
    else:
        nll(scale)
    return Recalibration(
        temperature=fitted[scale][0],
        posterior_scale=scale,
        num_examples=len(labels),
        num_samples=num_samples,
        seed=seed,
        nll_before=fitted[1.0][1],
        nll_after=fitted[scale][2],
        seen=seen,
        **describe_data(dataset),
    )


def _labels(model: Predictor, loader: DataLoader) -> tuple[torch.Tensor, Sketch]:
    """Return the labels of all examples, and a sketch of their inputs."""
    labels: list[torch.Tensor] = []

    def hashes() -> Iterator[str]:
        for batch in loader:
            own = batch.get("labels")
            if not isinstance(own, torch.Tensor) or own.dim() != 1 or own.is_floating_point():
                raise ValueError("A recalibration needs `labels`: one class, a whole number, an example.")
            labels.append(own)
            yield from example_hashes(model.inputs_of(batch))

    seen = Sketch(hashes())
    if not labels:
        raise ValueError("There is nothing to fit to: the data set is empty.")
    return torch.cat(labels), seen


def _mean_nll(output: PredictiveOutput, labels: torch.Tensor, temperature: float) -> float:
    log_probs = apply_temperature(output.log_probs.double(), temperature)
    return -log_probs.gather(1, labels.unsqueeze(1)).mean().item()
