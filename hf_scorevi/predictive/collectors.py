"""From the outputs of one draw after another to a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..posterior import standard_normal
from .averages import LabelsAverage, PredictiveAverage
from .gaussian_noise import GaussianNoise
from .moments import Moments
from .outputs import ForecastOutput, PredictiveOutput, RegressionOutput
from .quantiles import mixture_quantiles, sample_quantiles

__all__ = ["ClassCollector", "ForecastCollector", "PathCollector", "RegressionCollector"]


class ClassCollector:
    """
    A classifier's draws, for `PredictiveOutput`.

    Args:
        temperature: of the averaged probabilities.
        independent: the logits are of independent yes-or-no labels.
        keep_samples, keep_logits: what of each draw is kept; without either the memory is that of one draw.
    """

    def __init__(self, temperature: float, independent: bool, keep_samples: bool, keep_logits: bool) -> None:
        self._average = LabelsAverage() if independent else PredictiveAverage(temperature)
        self._independent = independent
        self._moments = Moments()
        self._samples: list[Tensor] | None = [] if keep_samples else None
        self._logits: list[Tensor] | None = [] if keep_logits else None

    def add(self, logits: Tensor) -> None:
        """Take in one draw."""
        logits = logits.float()
        self._average.add(logits)
        self._moments.add(logits)
        if self._samples is not None:
            self._samples.append(logits.sigmoid() if self._independent else logits.softmax(-1))
        if self._logits is not None:
            self._logits.append(logits)

    def result(self) -> PredictiveOutput:
        """After all draws."""
        average = self._average
        return PredictiveOutput(
            probs=average.probs,
            log_probs=average.log_probs,
            entropy=average.entropy,
            expected_entropy=average.expected_entropy,
            mutual_information=average.mutual_information,
            logit_std=self._moments.variance.sqrt(),
            num_samples=average.num_samples,
            samples=None if self._samples is None else torch.stack(self._samples),
            logits=None if self._logits is None else torch.stack(self._logits),
        )


class RegressionCollector:
    """
    A regression's draws, for `RegressionOutput`. Quantiles of the mixture need all draws' outputs.

    Args:
        noise: of the likelihood.
        quantile_levels: in (0, 1).
        keep_samples: whether the result has the draws' outputs.
    """

    def __init__(self, noise: GaussianNoise, quantile_levels: Sequence[float], keep_samples: bool) -> None:
        self._noise, self._variance = noise, torch.empty(0)
        self._levels = tuple(quantile_levels)
        self._keep_samples = keep_samples
        self._outputs: list[Tensor] = []

    def add(self, outputs: Tensor, scale: Tensor | None = None) -> None:
        """
        Take in one draw's outputs, and the scale of the windows that they are made from, the same for all draws.

        Raises:
            ValueError: the noise is that of outputs of another shape.
        """
        if not self._outputs:
            self._variance = self._noise.of(outputs.float(), scale)
        self._outputs.append(outputs.float())

    def _found(self) -> dict[str, Any]:
        """The attributes of the result."""
        draws = torch.stack(self._outputs)
        return {
            "mean": draws.mean(0),
            "epistemic_variance": draws.var(0) if len(draws) > 1 else torch.zeros_like(draws[0]),
            "aleatoric_variance": self._variance,
            "quantiles": mixture_quantiles(draws, self._variance, self._levels),
            "quantile_levels": self._levels,
            "num_samples": len(draws),
            "samples": draws if self._keep_samples else None,
        }

    def result(self) -> RegressionOutput:
        """After all draws."""
        return RegressionOutput(**self._found())


class ForecastCollector(RegressionCollector):
    """
    The same of a forecaster, for `ForecastOutput`.

    Args:
        paths_per_draw: sample paths, each draw's forecast with noise on it.
        seed: of the noise.
    """

    def __init__(
        self,
        noise: GaussianNoise,
        quantile_levels: Sequence[float],
        keep_samples: bool,
        paths_per_draw: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(noise, quantile_levels, keep_samples)
        self._paths_per_draw, self._seed = paths_per_draw, seed

    def result(self) -> ForecastOutput:
        """After all draws."""
        paths = None
        if self._paths_per_draw:
            draws = torch.stack(self._outputs).repeat_interleave(self._paths_per_draw, dim=0)
            (noise,) = standard_normal([draws.shape], draws.device, self._seed)
            paths = noise.mul_(self._variance.sqrt()).add_(draws)
        return ForecastOutput(**self._found(), paths=paths)


class PathCollector:
    """
    A forecaster's draws that are sample paths, for `ForecastOutput`.

    Args:
        quantile_levels: in (0, 1), of the paths of all draws together.
        keep_samples, keep_paths: whether the result has the means of each draw's paths, and the paths.
    """

    def __init__(self, quantile_levels: Sequence[float], keep_samples: bool, keep_paths: bool) -> None:
        self._levels = tuple(quantile_levels)
        self._keep_samples, self._keep_paths = keep_samples, keep_paths
        self._paths: list[Tensor] = []

    def add(self, paths: Tensor) -> None:
        """
        Take in one draw's, (K, B, H, C).

        Raises:
            ValueError: a single path, which does not tell the noise from the uncertainty of the weights.
        """
        if len(paths) < 2:
            raise ValueError(
                "One path a draw does not tell the noise from the uncertainty of the weights: ask for paths_per_draw "
                "of two or more (num_parallel_samples of the model's configuration)."
            )
        self._paths.append(paths.float())

    def result(self) -> ForecastOutput:
        """
        After all draws. With K paths a draw the variance between their means has 1/K of that within a draw too much,
        which is taken off.
        """
        paths = torch.stack(self._paths)
        samples, per_draw = paths.mean(1), paths.shape[1]
        within = paths.var(1).mean(0)
        between = samples.var(0) if len(samples) > 1 else torch.zeros_like(samples[0])
        paths = paths.flatten(0, 1)
        return ForecastOutput(
            mean=samples.mean(0),
            epistemic_variance=(between - within / per_draw).clamp_min(0),
            aleatoric_variance=within,
            quantiles=sample_quantiles(paths, self._levels),
            quantile_levels=self._levels,
            num_samples=len(samples),
            samples=samples if self._keep_samples else None,
            paths=paths if self._keep_paths else None,
        )
