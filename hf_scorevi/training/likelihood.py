"""
The log-likelihood that a model's loss stands for: the scale of the data term.

A wrong scale shows no error but makes every variance wrong, so a loss that is not known to be the mean of a
negative log-likelihood is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import ConcatDataset
from transformers.utils import logging

from ..errors import InputError
from ..heads import Head
from ..hub import StoredPosterior
from ..inference import NoiseVariance
from ..posterior import PosteriorConfig, resolve_temperature
from ..posterior.temperature import FORECASTER_OBSERVATIONS, OBSERVATIONS_PER_WEIGHT
from ..predictive import GaussianNoise
from ..time_series import SlidingWindows

__all__ = ["Likelihood", "count_terms", "resolve_likelihood", "stored_likelihood"]

logger = logging.get_logger(__name__)

_COUNTED_ROWS = 4096  # enough to estimate the mean number of terms in a row


@dataclass
class Likelihood:
    """
    −log p(data|θ) = num_data · loss_scale · (mean loss) + const, tempered by T.

    Attributes:
        num_data: N, terms of the likelihood of which the loss is the mean.
        temperature: T.
        noise: of a Gaussian, behind a squared error; `None` for a loss that is a negative log-likelihood in nats.
        windowed: whether the noise of the predictive is proportional to the variance of the window.
        measured: the noise of the predictive at its last measurement, under the weights of that time.
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
        """Return −log p of a term, in nats, where the mean loss is `loss`."""
        return loss if self.noise is None else loss * self.loss_scale + self.noise.log_normaliser

    def go_on_from(self, former: Likelihood) -> None:
        """Take over the noise of an earlier run, if it is of the same kind."""
        own, other = self.noise, former.noise
        if own is None or other is None or not own.learned or own.granularity != other.granularity:
            return
        if other.learned and self.windowed == former.windowed:
            other.forget_observed()
            self.noise, self.measured = other, former.measured

    def stored(self) -> dict[str, Any]:
        """Return the likelihood in the form of `posterior_config.json`."""
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
        """The noise of a Gaussian predictive, if it is known."""
        if self.measured is not None or self.windowed or self.noise is None or self.noise.value is None:
            return self.measured
        return GaussianNoise(self.noise.value)


def stored_likelihood(stored: StoredPosterior) -> Likelihood | None:
    """Build a likelihood from `Likelihood.stored`; return `None` if it was not recorded."""
    if not stored.likelihood:
        return None
    noise = _noise(stored.config, stored.noise_variance) if stored.likelihood["kind"] == "gaussian" else None
    predictive = stored.noise if noise is not None and noise.learned else None
    windowed = predictive is not None and predictive.floor is not None
    return Likelihood(stored.num_data, stored.temperature, noise, windowed, predictive)


def resolve_likelihood(head: Head, config: PosteriorConfig, num_data: int, num_weights: int) -> Likelihood:
    """
    Return the likelihood that a head's loss is the mean of.

    Args:
        num_data: N, terms of the likelihood in the training data.
        num_weights: that are Bayesian.

    Raises:
        InputError: `noise_variance` does not go with the head, or there are no data.
    """
    if head.likelihood != "gaussian" and config.noise_variance != "auto":
        raise InputError(
            "PosteriorConfig(noise_variance=...) is for mean-squared-error losses; that of this model is a negative "
            "log-likelihood already. Leave noise_variance out."
        )
    if num_data < 1:
        raise InputError("The training set is empty, so there is no likelihood to learn from.")
    per_weight = FORECASTER_OBSERVATIONS if head.forecasts else OBSERVATIONS_PER_WEIGHT
    temperature = resolve_temperature(config.temperature, num_data, num_weights, per_weight)
    if head.likelihood != "gaussian":
        return Likelihood(num_data, temperature)
    windowed = config.noise_variance == "window" or (config.noise_variance == "auto" and head.normalises)
    if windowed and not head.normalises:
        raise InputError(
            "The model tells no scale of its windows for a noise that is proportional to it; choose another "
            "PosteriorConfig(noise_variance=...)."
        )
    return Likelihood(num_data, temperature, _noise(config), windowed)


def count_terms(head: Head, dataset: Any, batches: Callable[[int], Iterable[Mapping[str, Any]]]) -> int:
    """
    Return the number of terms of the likelihood in a data set.

    Where the number differs between rows, labels are counted after the data collator: in all rows, or in 4,096 rows
    spread over the data if there are more.

    Args:
        batches: called with a number of rows; yields batches of at most that many in all, spread over the data set.

    Raises:
        InputError: the number is not known.
    """
    if dataset is None or not hasattr(dataset, "__len__"):
        raise InputError(
            "The number of data is unknown: train_dataset is missing or has no length. "
            "Give PosteriorConfig(num_data=...), the number of examples"
            + (", times that of labels in each." if head.counts_labels else ".")
        )
    if not len(dataset):
        return 0
    if head.forecasts and isinstance(dataset, ConcatDataset):  # of the windows of several series
        return sum(count_terms(head, part, batches) for part in dataset.datasets)
    if head.counts_labels:
        return _count_labels(head, len(dataset), batches(_COUNTED_ROWS))
    terms = head.terms
    if terms is None:
        row = dataset[0]
        target = row.get(head.target) if isinstance(row, Mapping) else None
        if target is None:
            raise InputError(
                f"The rows of train_dataset have no {head.target!r} to count the terms of the likelihood by. "
                "Give PosteriorConfig(num_data=...)."
            )
        terms = target.numel() if isinstance(target, Tensor) else int(np.size(target))
    if isinstance(dataset, SlidingWindows):  # windows overlap: each observed value counts once
        return round(dataset.num_targets * terms / dataset[0]["future_values"].numel())
    if head.forecasts:
        _warn_of_overlap(dataset, terms)
    return len(dataset) * terms


def _count_labels(head: Head, length: int, batches: Iterable[Mapping[str, Any]]) -> int:
    rows = terms = 0
    for batch in batches:
        number = head.count(batch)
        if number is None:
            raise InputError(
                f"The batches of train_dataset have no {head.target!r} to count the terms of the likelihood by. Give "
                "PosteriorConfig(num_data=...), or a data_collator that makes labels."
            )
        rows += len(batch[head.target])
        terms += int(number)
    if not terms:
        raise InputError(f"All {head.target!r} of train_dataset are ignored, so there is nothing to learn from.")
    return max(1, round(terms * length / rows))


def _warn_of_overlap(dataset: Any, terms: int) -> None:
    """Warn if neighbouring rows seem to share targets, which would be counted several times."""
    for first in {0, (len(dataset) - 1) // 2}:
        try:
            own, other = (np.asarray(dataset[i]["future_values"], dtype=np.float64) for i in (first, first + 1))
        except (IndexError, KeyError, TypeError, ValueError):
            continue
        if own.shape != other.shape or own.ndim == 0:
            continue
        stride = next((s for s in range(1, len(own)) if np.array_equal(own[s:], other[:-s])), None)
        if stride is not None and np.ptp(own) > 0:
            distinct = round((len(dataset) - 1) * terms * stride / len(own)) + terms
            logger.warning(
                f"The windows of train_dataset overlap: each begins {stride} steps after the one before and has "
                f"{len(own)}, so its targets count {len(own) / stride:.3g} times, and the posterior gets too narrow. "
                f"Give PosteriorConfig(num_data={distinct}), or use hf_scorevi.time_series.SlidingWindows, which "
                "counts them once."
            )
            return


def _noise(config: PosteriorConfig, value: Tensor | None = None) -> NoiseVariance:
    given = config.noise_variance
    if isinstance(given, str):
        return NoiseVariance("model" if given in ("auto", "window") else given, value)
    return NoiseVariance(value=given, learned=False)
