"""
What log-likelihood a model's loss stands for: the scale of the data term.

A wrong scale is silent and ruins every variance, so a loss that is not known to be a likelihood's mean is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torch.utils.data import Dataset
from transformers import PreTrainedConfig

from ..posterior import PosteriorConfig, resolve_temperature

__all__ = ["Likelihood", "resolve_likelihood"]

# Heads of transformers whose loss is the negative log-likelihood of no data, by what their class's name contains: sums
# of box, matching and dice losses, pixel-wise L1, a squared error plus quantile losses.
_NO_LIKELIHOOD = (
    "ForObjectDetection",
    "DetrForSegmentation",
    "ForInstanceSegmentation",
    "ForUniversalSegmentation",
    "ForMaskedImageModeling",
    "TimesFm",
)


@dataclass(frozen=True)
class Likelihood:
    """
    −log p(data|θ) = num_data · loss_scale · (mean loss) + const, tempered by T.

    Attributes:
        num_data: N, terms of the likelihood of which the loss is the mean.
        temperature: T.
        loss_scale: 1 for a negative log-likelihood in nats, 1/(2 σ²) for a squared error.
        kind: `"nll"` or `"gaussian"`.
    """

    num_data: int
    temperature: float
    loss_scale: float
    kind: str

    @property
    def weight(self) -> float:
        """N_eff per unit of loss: N · loss_scale / T."""
        return self.num_data * self.loss_scale / self.temperature


def resolve_likelihood(
    model: nn.Module, config: PosteriorConfig, train_dataset: Dataset | None, num_weights: int
) -> Likelihood:
    """
    The likelihood of `model`'s loss on `train_dataset`.

    Raises:
        ValueError: the loss is no likelihood, or a squared error and `noise_variance` is missing (or the reverse), or
            the number of data is not known.
    """
    if any(part in type(model).__name__ for part in _NO_LIKELIHOOD):
        raise ValueError(
            f"The loss of {type(model).__name__} is not the negative log-likelihood of any data, so it has no "
            "posterior. Train a head with a likelihood: classification, or regression with a "
            "PosteriorConfig(noise_variance=...)."
        )
    squared, outputs = _squared_error_outputs(model, config)
    if squared and config.noise_variance is None:
        raise ValueError(
            f"The loss of {type(model).__name__} is a mean squared error, which is a likelihood only together with a "
            "noise variance. Give PosteriorConfig(noise_variance=...), in squared units of the target."
        )
    if config.noise_variance is not None and not squared:
        raise ValueError(
            f"PosteriorConfig(noise_variance=...) is for mean-squared-error losses; that of {type(model).__name__} "
            "is taken to be a negative log-likelihood already. Leave noise_variance out."
        )
    num_data = config.num_data
    if num_data is None:
        if train_dataset is None or not hasattr(train_dataset, "__len__"):
            raise ValueError(
                "The number of data is unknown: train_dataset is missing or has no length. "
                "Give PosteriorConfig(num_data=...)."
            )
        num_data = len(train_dataset) * outputs
    if num_data < 1:
        raise ValueError("The training set is empty, so there is no likelihood to learn from.")
    loss_scale = 1.0 if config.noise_variance is None else 0.5 / config.noise_variance
    temperature = resolve_temperature(config.temperature, num_data, num_weights)
    return Likelihood(num_data, temperature, loss_scale, "gaussian" if squared else "nll")


def _squared_error_outputs(model: nn.Module, posterior_config: PosteriorConfig) -> tuple[bool, int]:
    """Whether the model's loss is a mean squared error, and over how many outputs per example it is a mean."""
    config = getattr(model, "config", None)
    if not isinstance(config, PreTrainedConfig):  # a model of the user's own: only they know its loss
        return posterior_config.noise_variance is not None, 1
    if getattr(config, "loss", None) == "mse":
        raise ValueError(
            "This model's mean-squared-error loss is a mean over horizon and channels of series that each have "
            "a noise variance of their own; it is not supported yet. Use a head with loss='nll', if the model has one."
        )
    num_labels = getattr(config, "num_labels", 0)
    problem = getattr(config, "problem_type", None)
    if problem == "regression" or (problem is None and num_labels == 1):
        return True, max(num_labels, 1)
    # A multi-label loss is a mean over examples and labels.
    return False, num_labels if problem == "multi_label_classification" else 1
