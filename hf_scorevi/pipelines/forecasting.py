"""Forecasts of raw series, in their own units, with the uncertainty split into its parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import Pipeline
from transformers.utils import logging

from ..modeling import BayesianModel
from ..time_series import SeriesProcessor, past_length
from .loading import load_processor
from .series import as_table, horizon_times, is_several, time_features

__all__ = ["TASK", "ForecastingPipeline"]

TASK = "forecasting"
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
_BY_STEP = ("mean", "epistemic_variance", "aleatoric_variance")

logger = logging.get_logger(__name__)


class ForecastingPipeline(Pipeline):
    """
    Forecast series, with the uncertainty.

    ```python
    forecaster = pipeline("forecasting", model="user/repository")
    found = forecaster(frame, num_samples=32, seed=0)  # a DataFrame of the recent past, with time stamps as its index
    found["mean"], found["quantiles"][0.95], found["times"]
    ```

    A series is an array, tensor or nested list (time steps, channels), for a single channel also (time steps,), or a
    DataFrame; its last `context_length` time steps are used, and it may not be shorter. Of a DataFrame the columns are
    found by name, and the time stamps in its index or else in a column of dates. Several series are a list of such, or
    an array (series, time steps, channels).

    For each series it returns a dictionary of numpy arrays of H steps and C channels, in the units of the series:
    `mean`; `quantiles`, an array for each level; `epistemic_std` and `aleatoric_std`, the standard deviations that
    come from the weights' uncertainty and from noise; `channels`, their names; `times`, the time stamps of the
    horizon, a `DatetimeIndex`, or `None` for a series without; and `paths` (num_paths, H, C), if they were asked for.

    Args:
        model: a `BayesianModel`, or where one lies: on the Hub or in a folder. The `SeriesProcessor` that lies there
            is used too; without one a series is not changed, so standardise it as in training.
        feature_extractor: a `SeriesProcessor`, for a model passed as an object, or where one lies.
        num_samples, seed: of the posterior draws, in the call or once for all, as all that follows; default: the
            model's own, 16 and 0.
        quantile_levels: in (0, 1).
        num_paths: number of sample paths, noise included.
        dayfirst: of time stamps that are text, as in `read_table`.

    Raises:
        TypeError: the model has no posterior.
        ValueError: the model is no forecaster; or a series is shorter than the context, has missing values, other
            channels, irregular time stamps, or none where the model needs them.
    """

    _load_tokenizer = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]  # our loader does, and strictly
    _load_processor = False  # type: ignore[assignment]

    model: Any
    feature_extractor: Any

    def __init__(self, model: BayesianModel, feature_extractor: Any = None, **kwargs: Any) -> None:
        if not isinstance(model, BayesianModel):
            raise TypeError(
                f"The pipeline {TASK!r} needs a BayesianModel, not a {type(model).__name__}: give that, or the name "
                "of a checkpoint with a posterior."
            )
        if model.task != "forecasts":
            raise ValueError(f"The pipeline {TASK!r} is for forecasters, and the model predicts {model.task}.")
        processor = vars(model).pop("processor", None)
        if feature_extractor is not None:
            processor = feature_extractor
        if isinstance(processor, str):
            processor = load_processor(processor)
        config = model.config
        self._channels = int(getattr(config, "num_input_channels", None) or config.input_size)
        if processor is None:
            logger.warning_once(
                "The forecaster has no SeriesProcessor: series are taken as they are, and have to be standardised as "
                "those that it was trained on."
            )
        elif not isinstance(processor, SeriesProcessor) or len(processor.channels) != self._channels:
            raise ValueError(
                f"feature_extractor has to be a SeriesProcessor of the model's {self._channels} channels, not "
                f"{processor!r}."
            )
        super().__init__(model=model, feature_extractor=processor, **kwargs)  # type: ignore[arg-type]

    def _sanitize_parameters(  # type: ignore[override]
        self,
        num_samples: int | None = None,
        seed: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        num_paths: int | None = None,
        dayfirst: bool | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if num_paths is not None and num_paths < 0:
            raise ValueError(f"num_paths must be at least 0, not {num_paths}.")
        levels = {} if quantile_levels is None else {"quantile_levels": tuple(quantile_levels)}
        draws = {"num_samples": num_samples, "seed": seed, "num_paths": num_paths}
        return (
            {"dayfirst": dayfirst},
            levels | {name: value for name, value in draws.items() if value is not None},
            levels,
        )

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the dictionary of one series, or a list of them for several."""
        if not isinstance(inputs, list | tuple | np.ndarray | torch.Tensor | pd.DataFrame | pd.Series):
            return super().__call__(inputs, *args, **kwargs)  # a generator or data set
        if is_several(inputs):
            return super().__call__([_plain(series) for series in inputs], *args, **kwargs)
        return super().__call__([_plain(inputs)], *args, **kwargs)[0]

    def preprocess(self, input_: Any, dayfirst: bool | None = None, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the model's inputs for one series."""
        values, times = as_table(input_, dayfirst)
        config, processor = self.model.config, self.feature_extractor
        if processor is None:
            names = list(values.columns) if isinstance(values, pd.DataFrame) else list(map(str, range(self._channels)))
            if len(names) != self._channels:
                raise ValueError(
                    f"The series has {len(names)} columns, and the model forecasts {self._channels} channels. Choose "
                    "them, in the order of training."
                )
            processor = SeriesProcessor(names, [0.0] * len(names), [1.0] * len(names))
        context = past_length(config)
        inputs = dict(processor(values, context_length=context))
        stamps = None if times is None else times[-context:]
        future = None if stamps is None else horizon_times(stamps, config.prediction_length, processor.frequency)
        inputs |= time_features(config, inputs["past_values"], stamps, future)
        return inputs | {"channels": processor.channels, "times": future}

    def _forward(  # type: ignore[override]
        self,
        input_tensors: dict[str, Any],
        num_samples: int | None = None,
        seed: int | None = None,
        quantile_levels: Sequence[float] = _LEVELS,
        num_paths: int = 0,
    ) -> dict[str, Any]:
        told = {name: input_tensors.pop(name) for name in ("channels", "times")}
        num_samples = self.model.num_samples if num_samples is None else num_samples
        paths_per_draw = math.ceil(num_paths / num_samples) if num_samples > 0 else 0
        if paths_per_draw and self.model.head.likelihood == "distribution":  # whose quantiles are those of the paths
            paths_per_draw = max(paths_per_draw, self.model.config.num_parallel_samples)
        forecast = self.model.forecast(
            num_samples=num_samples,
            seed=self.model.seed if seed is None else seed,
            quantile_levels=quantile_levels,
            paths_per_draw=paths_per_draw or None,
            **input_tensors,
        )
        # In float64, as a channel's mean may be large against its deviation.
        forecast = forecast.replaced({name: values.double() for name, values in forecast.examples_first().items()})
        if self.feature_extractor is not None:
            forecast = self.feature_extractor.inverse(forecast)
        tensors = forecast.examples_first()
        found = {name: tensors[name] for name in (*_BY_STEP, "quantiles")}
        if num_paths:  # those of different draws first
            paths = tensors["paths"].unflatten(1, (num_samples, -1)).transpose(1, 2).flatten(1, 2)
            found["paths"] = paths[:, :num_paths]
        return found | told

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any], quantile_levels: Sequence[float] = _LEVELS
    ) -> dict[str, Any]:
        """Return the dictionary of one series."""
        arrays = {name: own[0].numpy() for name, own in model_outputs.items() if isinstance(own, torch.Tensor)}
        found = {
            "mean": arrays["mean"],
            "quantiles": dict(zip(quantile_levels, arrays["quantiles"], strict=True)),
            "epistemic_std": np.sqrt(arrays["epistemic_variance"]),
            "aleatoric_std": np.sqrt(arrays["aleatoric_variance"]),
            "channels": list(model_outputs["channels"]),
            "times": model_outputs["times"],
        }
        return found | ({"paths": arrays["paths"]} if "paths" in arrays else {})


def _plain(series: Any) -> Any:
    """Convert nested lists to arrays, since the base class takes a list for several inputs."""
    if isinstance(series, list | tuple):
        try:
            return np.asarray(series, dtype=np.float64)
        except (ValueError, TypeError) as error:
            raise ValueError(f"A nested list has to be (time steps, channels), of numbers: {error}.") from error
    return series
