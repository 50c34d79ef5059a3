"""The predictive of a regression or forecast, a mixture of Gaussians, and its scores for each example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..posterior import standard_normal
from .gaussian_noise import GaussianNoise
from .outputs import ForecastOutput, RegressionOutput
from .quantiles import mixture_quantiles

__all__ = ["COVERAGES", "GAUSSIAN_SCORES", "GaussianPredictive", "gaussian_mixture_scores"]

COVERAGES = (0.5, 0.8, 0.9, 0.95)
# The names of the scores, in their order.
GAUSSIAN_SCORES = ("mse", "mae", "nll", "crps", *(f"coverage_{100 * level:.0f}" for level in COVERAGES))


class GaussianPredictive:
    """
    The predictive of numbers under a Gaussian likelihood, from one draw after another. Quantiles of the mixture need
    all draws' outputs, which are kept.

    Args:
        noise: of the observations; `None` if it is not known, and then there is no `output`.
        quantile_levels: in (0, 1).
        forecasts: whether the numbers are forecasts, and `output` is a `ForecastOutput`.
        samples: whether `output` has the outputs of each draw.
        paths_per_draw: sample paths of a forecaster, each draw's forecast with noise on it.
        seed: of that noise.
    """

    def __init__(
        self,
        noise: GaussianNoise | None,
        quantile_levels: Sequence[float] = (),
        *,
        forecasts: bool = False,
        samples: bool = False,
        paths_per_draw: int = 0,
        seed: int = 0,
    ) -> None:
        self.score_names = GAUSSIAN_SCORES
        self._noise = noise
        self._variance: Tensor | None = None
        self._levels = tuple(quantile_levels)
        self._forecasts, self._keeps_samples = forecasts, samples
        self._paths_per_draw, self._seed = paths_per_draw, seed
        self._draws: list[Tensor] = []

    def add(self, outputs: Tensor, scale: Tensor | None = None) -> None:
        """
        Take in one draw's outputs, (B, ...), and the scale of the windows that they are computed from, the same for
        all draws.

        Raises:
            ValueError: the noise is that of outputs of another shape.
        """
        if not self._draws and self._noise is not None:
            self._variance = self._noise.of(outputs.float(), scale)
        self._draws.append(outputs.float())

    @property
    def point(self) -> Tensor:
        """The prediction in a `Trainer`'s form: the mean over draws."""
        return torch.stack(self._draws).mean(0)

    def scores(self, target: Tensor) -> Tensor:
        """Return `GAUSSIAN_SCORES` of each example, (B, 8), for a target of as many numbers."""
        draws = torch.stack(self._draws)
        return gaussian_mixture_scores(draws, self._variance, target.reshape(draws.shape[1:]))

    def output(self) -> RegressionOutput:
        """
        Return the prediction, after all draws.

        Raises:
            ValueError: the noise is not known.
        """
        if self._variance is None:
            raise ValueError("The noise variance is not known.")
        draws = torch.stack(self._draws)
        found: dict[str, Any] = {
            "mean": draws.mean(0),
            "epistemic_variance": draws.var(0) if len(draws) > 1 else torch.zeros_like(draws[0]),
            "aleatoric_variance": self._variance,
            "quantiles": mixture_quantiles(draws, self._variance, self._levels),
            "quantile_levels": self._levels,
            "num_samples": len(draws),
            "samples": draws if self._keeps_samples else None,
        }
        if not self._forecasts:
            return RegressionOutput(**found)
        paths = None
        if self._paths_per_draw:
            repeated = draws.repeat_interleave(self._paths_per_draw, dim=0)
            (noise,) = standard_normal([repeated.shape], draws.device, self._seed)
            paths = noise.mul_(self._variance.sqrt()).add_(repeated)
        return ForecastOutput(**found, paths=paths)


@torch.no_grad()
def gaussian_mixture_scores(means: Tensor, variance: Tensor | None, target: Tensor) -> Tensor:
    """
    Return `GAUSSIAN_SCORES` of the predictive (1/S) Σ_s N(means_s, σ²), averaged over the elements of each example:
    squared and absolute error of its mean; −log density; CRPS in closed form; the share of targets in the central
    intervals of `COVERAGES`.

    Args:
        means: (S, B, ...), of the components.
        variance: σ², broadcast with (B, ...); `None` if it is not known.
        target: (B, ...).

    Returns:
        (B, 8), float32; what needs σ² is NaN where that is not known.

    Source: CRPS: Grimit et al., "The continuous ranked probability score for circular variables and its application to
    mesoscale forecast ensemble verification", QJRMS 2006.
    """
    means, target = means.float(), target.float()
    error = means.mean(0) - target
    scores = [error.square(), error.abs()]
    if variance is None:
        scores += [torch.full_like(error, torch.nan)] * (len(GAUSSIAN_SCORES) - 2)
    else:
        std = variance.to(means).sqrt()
        z = (target - means) / std
        log_density = (-0.5 * z.square()).logsumexp(0) - math.log(len(means)) - std.log() - 0.5 * math.log(2 * math.pi)
        probability = torch.special.ndtr(z).mean(0)  # of less than the target: inside if near one half
        scores += [-log_density, _crps(means, std, z)]
        scores += [((probability - 0.5).abs() <= level / 2).float() for level in COVERAGES]
    return torch.stack([score.reshape(len(score), -1).mean(1) for score in scores], dim=1)


def _crps(means: Tensor, std: Tensor, z: Tensor) -> Tensor:
    """Return E|Y − y| − ½ E|Y − Y'| for independent Y, Y' of the mixture."""
    spread = sum(_expected_distance((means[:i] - means[i]) / (std * 2**0.5)).sum(0) for i in range(1, len(means)))
    own = len(means) / math.sqrt(math.pi)  # E|Y − Y'| within a component is 2σ/√π
    return std * (_expected_distance(z).mean(0) - (2**0.5 * spread + own) / len(means) ** 2)


def _expected_distance(z: Tensor) -> Tensor:
    """Return E|X − z| for a standard normal X."""
    return z * (2 * torch.special.ndtr(z) - 1) + (2 / math.sqrt(2 * math.pi)) * torch.exp(-0.5 * z.square())
