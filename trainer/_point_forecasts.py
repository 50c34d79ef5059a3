"""The baseline's predictive: a point forecast with Gaussian noise, fitted to the residuals of the validation part."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import EvalPrediction

from hf_scorevi.predictive import GAUSSIAN_SCORES, GaussianNoise, gaussian_mixture_scores

__all__ = ["PointForecastMetrics", "forecast_and_scale"]


def forecast_and_scale(outputs: tuple[Tensor, ...], labels: Any) -> tuple[Tensor, Tensor]:
    """Of a forecaster's outputs, in the order of Koopa, PatchTST and PatchTSMixer: (B, H, C), and (B, 1, C)."""
    return outputs[0], outputs[-1]


class PointForecastMetrics:
    """
    The baseline's `compute_metrics`: the scores that `ScoreVITrainer` reports, with noise of the same form.

    Args:
        noise_variance: as of `PosteriorConfig`: a number, or what has a variance of its own.

    Attributes:
        fitting: whether what is evaluated now is what the noise is fitted to.
    """

    def __init__(self, noise_variance: Any) -> None:
        self._given = noise_variance
        self._noise: GaussianNoise | None = None
        self.fitting = True

    def __call__(self, evaluation: EvalPrediction) -> dict[str, float]:
        forecasts, scale = (torch.as_tensor(values) for values in evaluation.predictions)
        observed = torch.as_tensor(evaluation.label_ids)
        if self.fitting:
            self._noise = self._fitted((forecasts - observed).square(), scale)
        variance = None if self._noise is None else self._noise.of(forecasts, scale)
        scores = gaussian_mixture_scores(forecasts[None], variance, observed).mean(0)
        return {k: float(v) for k, v in zip(GAUSSIAN_SCORES, scores, strict=True) if not v.isnan()}

    def _fitted(self, squares: Tensor, scale: Tensor) -> GaussianNoise:
        """To squared residuals, (B, H, C), by the means in closed form that `ScoreVITrainer` takes."""
        if isinstance(self._given, float):
            return GaussianNoise(torch.tensor(self._given))
        return GaussianNoise.fit(squares, "window" if self._given == "auto" else self._given, scale)
