"""Conversion between the units of a series and the standardised ones of a forecaster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import BatchFeature
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.utils import logging

from ..json_values import POSITIVE, json_list, json_number, short
from ..predictive import ForecastOutput
from ._values import refuse_non_finite, to_array, to_columns

__all__ = ["SeriesProcessor"]

logger = logging.get_logger(__name__)


class SeriesProcessor(FeatureExtractionMixin):
    """
    Standardise each channel of a series by mean and deviation of its training rows, and convert forecasts back.

    It is a `processing_class` of the Trainer, which saves it beside the model, as `preprocessor_config.json`.

    ```python
    processor = SeriesProcessor.fit(train, channels=["load", "temperature"], frequency="h")
    forecast = processor.inverse(model.forecast(**processor(recent)))  # recent: (L, C), in its own units
    ```

    Args:
        channels: names of the channels, in order, C of them.
        mean: mean of each channel, (C,).
        std: standard deviation of each channel, (C,), positive.
        frequency: of the time steps as pandas writes it ("h", "10min", "D"), if known; only recorded.

    Raises:
        ValueError: lists of different lengths, names twice, or numbers that are not finite or not positive.
    """

    model_input_names = ["past_values"]  # noqa: RUF012, as transformers declares it

    def __init__(
        self,
        channels: Sequence[str] = (),
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        frequency: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.channels, self.mean, self.std, self.frequency = list(channels), list(mean), list(std), frequency
        self._check()

    def _check(self) -> None:
        if not self.channels or not len(self.channels) == len(self.mean) == len(self.std):
            raise ValueError(
                "A SeriesProcessor has channels, mean and std of the same length, at least 1, not "
                f"{len(self.channels)}, {len(self.mean)} and {len(self.std)}."
            )
        if not all(isinstance(name, str) for name in self.channels) or len(set(self.channels)) < len(self.channels):
            raise ValueError(f"channels must be different names, not {self.channels}.")
        for name, mean, std in zip(self.channels, self.mean, self.std, strict=True):
            json_number(f"The mean of channel {short(name)}", mean)
            json_number(f"The std of channel {short(name)}", std, POSITIVE)
        if self.frequency is not None and not isinstance(self.frequency, str):
            raise ValueError(f"frequency must be a string such as 'h', or None, not {self.frequency!r}.")

    @classmethod
    def fit(cls, values: Any, channels: Sequence[str] | None = None, frequency: str | None = None) -> SeriesProcessor:
        """
        Fit a processor to a training series, (T, C) or (T,): array, tensor or DataFrame. The standard deviation
        divides by T, as in scikit-learn. A constant channel is only shifted, its std taken as 1, with a warning.

        Args:
            channels: names of the channels; default: those of the DataFrame, else "0", "1", ….
            frequency: of the time steps, as pandas writes it.

        Raises:
            ValueError: values of another shape, not finite, or no time steps; another number of names.
        """
        array, names = to_columns(values)
        if len(array) == 0:
            raise ValueError("The series has no time steps.")
        channels = list(channels or names or map(str, range(array.shape[1])))
        if len(channels) != array.shape[1]:
            raise ValueError(f"The series has {array.shape[1]} channels, but channels names {len(channels)}.")
        refuse_non_finite(array, channels)
        std = array.std(0)
        constant = array.max(0) == array.min(0)  # its std may be a rounding error instead of 0
        if constant.any():
            which = [name for name, same in zip(channels, constant, strict=True) if same]
            logger.warning(
                f"These channels are constant over the training data: {', '.join(which)}. They are shifted to 0 and "
                "not scaled; nothing can be learned about them, and they make average errors look smaller."
            )
            std[constant] = 1.0
        return cls(channels, array.mean(0).tolist(), std.tolist(), frequency)

    def __call__(self, series: Any, *, context_length: int | None = None) -> BatchFeature:
        """
        Standardise the past of a forecast.

        Args:
            series: in its own units: (L, C), several (B, L, C), or (L,) of a single channel; array, tensor or a
                DataFrame, whose columns are found by name, and others left out.
            context_length: number of the last time steps to take; default: all.

        Returns:
            `past_values`, (B, L, C) float32.

        Raises:
            ValueError: other channels, fewer time steps than `context_length`, or values that are not finite.
        """
        if isinstance(series, pd.DataFrame):
            missing = [name for name in self.channels if name not in series.columns]
            if missing:
                raise ValueError(
                    f"The series has no column {missing[0]!r}; it has {', '.join(map(str, series.columns))}."
                )
            series = series[self.channels]
        array, _ = to_array(series)
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim == 2:
            array = array[None]
        if array.ndim != 3 or array.shape[2] != len(self.channels):
            raise ValueError(
                f"The series must have the shape (time steps, {len(self.channels)} channels), or of several series "
                f"(series, time steps, channels), not {np.shape(series)}. The channels are {', '.join(self.channels)}."
            )
        if context_length is not None:
            if array.shape[1] < context_length:
                raise ValueError(
                    f"The series has {array.shape[1]} time steps, fewer than the context_length {context_length}."
                )
            array = array[:, array.shape[1] - context_length :]
        refuse_non_finite(array, self.channels)
        standardised = (array - np.array(self.mean)) / np.array(self.std)
        return BatchFeature({"past_values": torch.from_numpy(standardised.astype(np.float32))})

    def standardize(self, values: Any) -> Tensor:
        """Standardise one series, (T, C) or (T,) of a single channel, in its own units; returns (T, C) float32."""
        past = self(values)["past_values"]
        if len(past) != 1:
            raise ValueError(f"Give one series, (time steps, channels), not {len(past)}.")
        return past[0]

    def inverse(self, forecast: ForecastOutput) -> ForecastOutput:
        """
        Convert a forecast to the units of the series.

        Raises:
            ValueError: it has another number of channels.
        """
        if forecast.mean.shape[-1] != len(self.channels):
            raise ValueError(
                f"The forecast has {forecast.mean.shape[-1]} channels, but the processor's are "
                f"{', '.join(self.channels)}."
            )
        mean, std = (forecast.mean.new_tensor(values) for values in (self.mean, self.std))
        changed: dict[str, Any] = {}
        for name in ("mean", "quantiles", "samples", "paths"):
            values = getattr(forecast, name)
            changed[name] = None if values is None else values * std + mean
        for name in ("epistemic_variance", "aleatoric_variance"):
            changed[name] = getattr(forecast, name) * std**2
        return replace(forecast, **changed)

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Build a processor from `preprocessor_config.json`, as transformers does; another kind is refused."""
        kind = feature_extractor_dict.get("feature_extractor_type")
        if kind != cls.__name__:
            raise ValueError(f"preprocessor_config.json is not of a {cls.__name__} but of {kind or 'another kind'}.")
        for name in ("channels", "mean", "std"):
            json_list(f"{name} in preprocessor_config.json", feature_extractor_dict.get(name))
        known = {name: feature_extractor_dict.get(name) for name in ("channels", "mean", "std", "frequency")}
        return super().from_dict(known, **kwargs)  # what else a file holds would become attributes
