"""
What log-likelihood a model's loss stands for: the scale of the data term.

A wrong scale is silent and ruins every variance, so a loss that is not known to be a likelihood's mean is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..heads import Head, find_head
from ..hub import StoredPosterior
from ..inference import NoiseVariance, WindowNoise
from ..posterior import PosteriorConfig, resolve_temperature
from ..predictive import GaussianNoise
from ..time_series import SlidingWindows

__all__ = ["Likelihood", "resolve_likelihood", "stored_likelihood"]


@dataclass(frozen=True)
class Likelihood:
    """
    −log p(data|θ) = num_data · loss_scale · (mean loss) + const, tempered by T.

    Attributes:
        num_data: N, terms of the likelihood of which the loss is the mean.
        temperature: T.
        noise: of a Gaussian, behind a squared error; `None` for a loss that is a negative log-likelihood in nats.
        window_noise: of the predictive, if its noise is proportional to the variance of the window.
    """

    num_data: int
    temperature: float
    noise: NoiseVariance | None = None
    window_noise: WindowNoise | None = None

    @property
    def kind(self) -> str:
        """`"nll"` or `"gaussian"`."""
        return "nll" if self.noise is None else "gaussian"

    @property
    def loss_scale(self) -> float:
        """1 for a negative log-likelihood in nats, ½ mean 1/σ² for a squared error."""
        return 1.0 if self.noise is None else self.noise.scale

    @property
    def weight(self) -> float:
        """N_eff per unit of loss: N · loss_scale / T."""
        return self.num_data * self.loss_scale / self.temperature

    def negative_log(self, loss: float) -> float:
        """−log p of a term, in nats, where the mean loss is `loss`."""
        return loss if self.noise is None else loss * self.loss_scale + self.noise.log_normaliser

    def stored(self) -> dict[str, Any]:
        """As `posterior_config.json` has it."""
        values: dict[str, Any] = {"kind": self.kind, "loss_scale": self.loss_scale}
        if self.noise is not None and self.noise.value is not None:
            values["noise_variance"] = self.noise.value.tolist()
        if self.window_noise is not None and self.window_noise.factor is not None:
            found = {"factor": self.window_noise.factor, "floor": self.window_noise.floor}
            values["window_noise"] = {name: value.tolist() for name, value in found.items() if value is not None}
        return values

    @property
    def learned(self) -> list[NoiseVariance | WindowNoise]:
        """What is learned from residuals."""
        noise = [self.noise] if self.noise is not None and self.noise.learned else []
        return [*noise, *([self.window_noise] if self.window_noise is not None else [])]

    @property
    def predictive_noise(self) -> GaussianNoise | None:
        """Of the predictive, if it has a Gaussian's, and it is known."""
        if self.window_noise is not None:
            factor, floor = self.window_noise.factor, self.window_noise.floor
            return None if factor is None else GaussianNoise(factor, floor)
        known = self.noise is not None and self.noise.value is not None
        return GaussianNoise(self.noise.value) if known else None  # type: ignore[union-attr,arg-type]


def stored_likelihood(stored: StoredPosterior) -> Likelihood | None:
    """The inverse of `Likelihood.stored`; `None` if it was not recorded."""
    if not stored.likelihood:
        return None
    gaussian, predictive = stored.likelihood["kind"] == "gaussian", stored.noise
    noise = _noise(stored.config, stored.noise_variance) if gaussian else None
    windowed = predictive is not None and predictive.floor is not None
    window = WindowNoise(predictive.variance, predictive.floor) if windowed else None  # type: ignore[union-attr]
    return Likelihood(stored.num_data, stored.temperature, noise, window)


def resolve_likelihood(
    model: nn.Module, config: PosteriorConfig, train_dataset: Dataset | None, num_weights: int
) -> Likelihood:
    """
    The likelihood of `model`'s loss on `train_dataset`.

    Raises:
        ValueError: the loss is no likelihood, `noise_variance` does not go with it, or the number of data is not known
            or zero.
    """
    head = find_head(model, squared_error=config.noise_variance != "auto")
    if head.kind == "nll" and config.noise_variance != "auto":
        raise ValueError(
            f"PosteriorConfig(noise_variance=...) is for mean-squared-error losses; that of {type(model).__name__} "
            "is taken to be a negative log-likelihood already. Leave noise_variance out."
        )
    num_data = _count(head, train_dataset) if config.num_data is None else config.num_data
    if num_data < 1:
        raise ValueError("The training set is empty, so there is no likelihood to learn from.")
    temperature = resolve_temperature(config.temperature, num_data, num_weights)
    if head.kind == "nll":
        return Likelihood(num_data, temperature)
    windowed = config.noise_variance == "window" or (config.noise_variance == "auto" and head.normalises)
    if windowed and not head.normalises:
        raise ValueError(
            f"{type(model).__name__} tells no scale of its windows for a noise that is proportional to it; choose "
            "another PosteriorConfig(noise_variance=...)."
        )
    return Likelihood(num_data, temperature, _noise(config), WindowNoise() if windowed else None)


def _count(head: Head, dataset: Any) -> int:
    """Terms of the likelihood."""
    if dataset is None or not hasattr(dataset, "__len__"):
        raise ValueError(
            "The number of data is unknown: train_dataset is missing or has no length. "
            "Give PosteriorConfig(num_data=...)."
        )
    if not len(dataset):
        return 0
    terms = head.terms
    if terms is None:
        row = dataset[0]
        target = row.get(head.target) if isinstance(row, Mapping) else None
        if target is None:
            raise ValueError(
                f"The rows of train_dataset have no {head.target!r} to count the terms of the likelihood by. "
                "Give PosteriorConfig(num_data=...)."
            )
        terms = target.numel() if isinstance(target, Tensor) else int(np.size(target))
    if isinstance(dataset, SlidingWindows):  # their share that is not counted by another window already
        return round(dataset.num_targets * terms / dataset[0]["future_values"].numel())
    return len(dataset) * terms


def _noise(config: PosteriorConfig, value: Tensor | None = None) -> NoiseVariance:
    given = config.noise_variance
    if isinstance(given, str):
        return NoiseVariance("model" if given in ("auto", "window") else given, value)
    return NoiseVariance(value=given, learned=False)
