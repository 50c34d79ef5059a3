"""
What log-likelihood a model's loss stands for: the scale of the data term.

A wrong scale is silent and ruins every variance, so a loss that is not known to be a likelihood's mean is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..heads import Head, find_head
from ..hub import StoredPosterior
from ..inference import NoiseVariance
from ..posterior import PosteriorConfig, resolve_temperature
from ..posterior.temperature import FORECASTER_OBSERVATIONS, OBSERVATIONS_PER_WEIGHT
from ..predictive import GaussianNoise
from ..time_series import SlidingWindows

__all__ = ["Likelihood", "resolve_likelihood", "stored_likelihood"]


@dataclass
class Likelihood:
    """
    −log p(data|θ) = num_data · loss_scale · (mean loss) + const, tempered by T.

    Attributes:
        num_data: N, terms of the likelihood of which the loss is the mean.
        temperature: T.
        noise: of a Gaussian, behind a squared error; `None` for a loss that is a negative log-likelihood in nats.
        windowed: whether the noise of the predictive is proportional to the variance of the window.
        measured: the noise of the predictive, as it was last measured, with the weights then.
    """

    num_data: int
    temperature: float
    noise: NoiseVariance | None = None
    windowed: bool = False
    measured: GaussianNoise | None = None

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

    def go_on_from(self, former: Likelihood) -> None:
        """Take over the noise that was learned so far, if it is of the same kind."""
        own, other = self.noise, former.noise
        if own is None or other is None or not own.learned or own.granularity != other.granularity:
            return
        if other.learned and self.windowed == former.windowed:
            other.forget_observed()
            self.noise, self.measured = other, former.measured

    def stored(self) -> dict[str, Any]:
        """As `posterior_config.json` has it."""
        values: dict[str, Any] = {"kind": self.kind, "loss_scale": self.loss_scale}
        predictive = self.predictive_noise
        if self.windowed and predictive is not None and predictive.floor is not None:
            values["window_noise"] = {"factor": predictive.variance.tolist(), "floor": predictive.floor.tolist()}
        variance = predictive.variance if predictive is not None and not self.windowed else None
        if variance is None and self.noise is not None:
            variance = self.noise.value
        return values | ({} if variance is None else {"noise_variance": variance.tolist()})

    @property
    def learns_noise(self) -> bool:
        """Whether the noise is learned from residuals."""
        return self.noise is not None and self.noise.learned

    @property
    def predictive_noise(self) -> GaussianNoise | None:
        """Of the predictive, if it is a Gaussian's, and known."""
        if self.measured is not None or self.windowed or self.noise is None or self.noise.value is None:
            return self.measured
        return GaussianNoise(self.noise.value)


def stored_likelihood(stored: StoredPosterior) -> Likelihood | None:
    """The inverse of `Likelihood.stored`; `None` if it was not recorded."""
    if not stored.likelihood:
        return None
    noise = _noise(stored.config, stored.noise_variance) if stored.likelihood["kind"] == "gaussian" else None
    predictive = stored.noise if noise is not None and noise.learned else None
    windowed = predictive is not None and predictive.floor is not None
    return Likelihood(stored.num_data, stored.temperature, noise, windowed, predictive)


def resolve_likelihood(
    model: nn.Module,
    config: PosteriorConfig,
    train_dataset: Dataset | None,
    num_weights: int,
    declared: bool = False,
) -> Likelihood:
    """
    The likelihood of `model`'s loss on `train_dataset`.

    Args:
        declared: the loss is the user's own, who says that it is a negative log-likelihood.

    Raises:
        ValueError: the loss is no likelihood, `noise_variance` does not go with it, or the number of data is not known
            or zero.
    """
    try:
        head = find_head(model, squared_error=config.noise_variance != "auto")
    except ValueError:
        if not declared:
            raise
        head = Head()
    if declared:
        head = replace(head, kind="nll")
    if head.kind == "nll" and config.noise_variance != "auto":
        raise ValueError(
            f"PosteriorConfig(noise_variance=...) is for mean-squared-error losses; that of {type(model).__name__} "
            "is taken to be a negative log-likelihood already. Leave noise_variance out."
        )
    num_data = _count(head, train_dataset) if config.num_data is None else config.num_data
    if num_data < 1:
        raise ValueError("The training set is empty, so there is no likelihood to learn from.")
    per_weight = FORECASTER_OBSERVATIONS if head.forecasts else OBSERVATIONS_PER_WEIGHT
    temperature = resolve_temperature(config.temperature, num_data, num_weights, per_weight)
    if head.kind == "nll":
        return Likelihood(num_data, temperature)
    windowed = config.noise_variance == "window" or (config.noise_variance == "auto" and head.normalises)
    if windowed and not head.normalises:
        raise ValueError(
            f"{type(model).__name__} tells no scale of its windows for a noise that is proportional to it; choose "
            "another PosteriorConfig(noise_variance=...)."
        )
    return Likelihood(num_data, temperature, _noise(config), windowed)


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
