"""What a model card says of a forecaster and of its noise. All of it is from files that may be anybody's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from ..errors import PosteriorCheckpointError
from ..json_values import POSITIVE, is_number, is_whole
from .card_merging import plain
from .untrusted import read_json

__all__ = ["describe_forecaster", "describe_noise"]

_PROCESSOR_NAME = "preprocessor_config.json"
_MOST_CHANNELS = 12  # that are named
# What a learned noise variance is one of.
_NOISE = {
    "model": "learned, one for all",
    "channel": "learned, one a channel",
    "horizon": "learned, one a step of the horizon",
    "element": "learned, one a step and channel",
    "window": "learned, proportional to the variance of the window that is forecast from",
}


def describe_forecaster(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return lengths and channels, numbers or else what they are called in the configuration; the names of the channels
    and the frequency, if a `SeriesProcessor` lies in the folder; and where the class is to be had.
    """
    processor = _processor(folder)
    names = [plain(name) for name in processor.get("channels", []) if isinstance(name, str)]
    channels = config.get("input_size", config.get("num_input_channels"))
    frequency = processor.get("frequency")
    return {
        "context": _whole(config.get("context_length")) or "context_length",
        "horizon": _whole(config.get("prediction_length")) or "prediction_length",
        "channels": len(names) or _whole(channels) or "channels",
        "names": ", ".join(names[:_MOST_CHANNELS]) + (", …" if len(names) > _MOST_CHANNELS else ""),
        "frequency": plain(frequency) if isinstance(frequency, str) else None,
        "standardised": bool(processor),
        "is_koopa": config.get("model_type") == "koopa",
        "is_lagged": "lags_sequence" in config,
    }


def describe_noise(contents: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return rows of a table about the Gaussian noise of `posterior_config.json`; none if the likelihood has another.
    """
    likelihood, posterior = contents.get("likelihood"), contents.get("posterior")
    if not isinstance(likelihood, dict) or not isinstance(posterior, dict) or likelihood.get("kind") != "gaussian":
        return {}
    given, window = posterior.get("noise_variance"), likelihood.get("window_noise")
    if isinstance(given, int | float):
        return {"noise variance": given}
    factor = window.get("factor") if isinstance(window, dict) else None
    kind = given if given != "auto" else "model" if factor is None else "window"
    shown = _range(likelihood.get("noise_variance") if factor is None else factor)
    return {
        "noise variance": _NOISE.get(kind) if isinstance(kind, str) else None,
        "standard deviation of the noise": shown and (shown if factor is None else f"{shown} of the window's"),
    }


def _processor(folder: Path) -> dict[str, Any]:
    try:
        contents = read_json(folder / _PROCESSOR_NAME)
    except (PosteriorCheckpointError, OSError):
        return {}
    is_ours = contents.get("feature_extractor_type") == "SeriesProcessor"
    return contents if is_ours and isinstance(contents.get("channels"), list) else {}


def _whole(value: Any) -> int | None:
    return value if is_whole(value, 1, 2**31 - 1) else None


def _range(variance: Any) -> str | None:
    """Return the smallest, largest and middle standard deviation of a number or lists of lists of such."""
    rows = variance if isinstance(variance, list) else [variance]
    numbers = [value for row in rows for value in (row if isinstance(row, list) else [row])]
    stds = [math.sqrt(v) for v in numbers if is_number(v, POSITIVE)]
    if not stds:
        return None
    low, high = f"{min(stds):.3g}", f"{max(stds):.3g}"
    return low if low == high else f"{low} to {high}, median {median(stds):.3g}"
