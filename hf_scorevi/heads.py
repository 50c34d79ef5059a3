"""What a model's head predicts, and what its loss is the likelihood of."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig

__all__ = ["Head", "base_of", "find_head"]

# Heads of transformers whose loss is the negative log-likelihood of no data, by what their class's name contains: sums
# of box, matching and dice losses, pixel-wise L1, errors of masked patches.
_NO_LIKELIHOOD = (
    "ForObjectDetection",
    "DetrForSegmentation",
    "ForInstanceSegmentation",
    "ForUniversalSegmentation",
    "ForMaskedImageModeling",
    "ForPretraining",
)


@dataclass(frozen=True)
class Head:
    """
    Attributes:
        kind: `"nll"`, the loss is a negative log-likelihood in nats; `"gaussian"`, it is a mean squared error.
        terms: of the likelihood in one example, of which the loss is the mean; `None`: elements of the target.
        target: the argument of the model's forward that the loss compares with.
        prediction: the field of the outputs that is compared, or has the logits.
        channels: those of the target that are predicted; `None` for all.
        normalises: whether the outputs tell the `scale` of each window, (B, 1, C), that a squared error's forecast was
            normalised by.
    """

    kind: str = "nll"
    terms: int | None = 1
    target: str = "labels"
    prediction: str = "logits"
    channels: tuple[int, ...] | None = None
    normalises: bool = False

    @property
    def forecasts(self) -> bool:
        """Whether the model forecasts a series."""
        return self.target == "future_values"

    def predicted(self, outputs: Any) -> Tensor:
        """
        `prediction` among a model's outputs, (B, ...).

        Raises:
            TypeError: it is not there, or no tensor.
        """
        found = self._found(outputs)
        if not isinstance(found, Tensor):
            raise TypeError(f"The model's outputs have no tensor {self.prediction!r}.")
        return found

    def predicts(self, outputs: Any) -> bool:
        """Whether it is there."""
        return isinstance(self._found(outputs), Tensor)

    def _found(self, outputs: Any) -> Any:
        mapping = isinstance(outputs, Mapping)
        return outputs.get(self.prediction) if mapping else getattr(outputs, self.prediction, None)

    def observed(self, target: Tensor) -> Tensor:
        """The part of a target that is predicted."""
        return target if self.channels is None else target[..., list(self.channels)]


def base_of(model: nn.Module) -> Any:
    """The model without its adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def find_head(model: nn.Module, squared_error: bool = False) -> Head:
    """
    The head of `model`, which may have an adapter.

    Args:
        squared_error: whether the loss of a model that is none of transformers' is a mean squared error. It is then
            between `prediction_outputs` and `future_values`, if its forward takes these, or `logits` and `labels`.

    Raises:
        ValueError: the loss is no likelihood.
    """
    base = base_of(model)
    name, config = type(base).__name__, getattr(base, "config", None)
    if "TimesFm" in name:
        raise ValueError(
            f"The loss of {name} is a squared error plus quantile losses, which is not the negative log-likelihood of "
            "any data, so it has no posterior. Train a forecaster that has a likelihood: Koopa, PatchTST or "
            "PatchTSMixer (a Gaussian with learned noise), TimeSeriesTransformer, Informer or Autoformer."
        )
    if any(part in name for part in _NO_LIKELIHOOD):
        raise ValueError(
            f"The loss of {name} is not the negative log-likelihood of any data, so it has no posterior. Train a head "
            "with a likelihood: classification, regression or forecasting."
        )
    if not isinstance(config, PreTrainedConfig):  # a model of the user's own: only they know its loss
        return _own_head(base) if squared_error else Head()
    if hasattr(config, "loss"):
        return _series_head(name, config)
    num_labels, problem = getattr(config, "num_labels", 0), getattr(config, "problem_type", None)
    if problem == "regression" or (problem is None and num_labels == 1):
        return Head("gaussian", max(num_labels, 1))
    # A multi-label loss is a mean over examples and labels.
    return Head(terms=num_labels if problem == "multi_label_classification" else 1)


def _own_head(model: nn.Module) -> Head:
    if "future_values" in inspect.signature(model.forward).parameters:
        return Head("gaussian", None, "future_values", "prediction_outputs")
    return Head("gaussian", None)


def _series_head(name: str, config: Any) -> Head:
    """Of Koopa, and of transformers' models of time series, whose losses are means over all there is."""
    if "Classification" in name:
        field = "prediction_logits" if "PatchTSTFor" in name else "prediction_outputs"
        return Head(target="target_values", prediction=field)
    kind = "gaussian" if config.loss == "mse" else "nll"
    if "ForRegression" in name:
        if kind == "nll":
            raise ValueError(
                f"With loss='nll' {name} gives the parameters of a distribution, of which no predictive is made here. "
                "Choose loss='mse': a Gaussian, whose noise variance is learned."
            )
        return Head(kind, config.num_targets, "target_values", "regression_outputs")
    horizon = config.prediction_length
    chosen = getattr(config, "prediction_channel_indices", None)
    channels = len(chosen) if chosen else getattr(config, "num_input_channels", None) or config.input_size
    if kind == "nll" and horizon == 1 and hasattr(config, "num_input_channels"):
        raise ValueError(
            f"With loss='nll' and prediction_length=1 {name} loses the dimension of the horizon, and compares each "
            "window with the others. Choose loss='mse', or forecast two steps or more."
        )
    if kind == "nll" and "TSMixer" in name and config.distribution_output == "negative_binomial":
        raise ValueError(
            f"{name}.generate multiplies counts by the scale of the window twice, so that its forecasts are far too "
            "large. Choose another distribution_output, or PatchTST."
        )
    return Head(
        kind,
        horizon if kind == "nll" else horizon * channels,  # the density is that of all channels of a step together
        "future_values",
        "prediction_outputs",
        tuple(chosen) if chosen else None,
        normalises=kind == "gaussian",
    )
