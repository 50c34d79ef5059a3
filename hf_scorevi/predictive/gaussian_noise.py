"""The noise of observations in a Gaussian predictive."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..inference import NoiseVariance

__all__ = ["GaussianNoise"]

_FLOOR = 0.3  # of the mean squared scale of a channel's windows


@dataclass(frozen=True)
class GaussianNoise:
    """
    Attributes:
        variance: σ², in squared units of the target, (), (C,), (H, 1) or (H, C); with a floor, the factor of
            scale² + floor, without units.
        floor: (C,), in squared units of the target, if the noise is proportional to the variance of the window that
            a forecast is made from; `None` if it does not depend on the window.
    """

    variance: Tensor
    floor: Tensor | None = None

    @classmethod
    def fit(cls, squares: Tensor, granularity: str, scale: Tensor | None = None) -> GaussianNoise:
        """
        Fit the noise to squared residuals, in closed form: the mean of those that share a variance.

        For windows it is s_h² (scale² + floor), with one s_h² for each step of the horizon, the mean of squared
        residual / (scale² + floor): where the level and spread of a series drift, so does its noise. The floor, 0.3
        times the mean squared scale of a channel, keeps a window that is nearly constant from being taken for one
        without noise.

        Args:
            squares: (N, ..., H, C), in squared units of the target.
            granularity: as in `NoiseVariance`, or `"window"`.
            scale: of the windows, (N, 1, C), in units of the target.

        Raises:
            ValueError: residuals that are not finite, or that lack the granularity's dimensions.
        """
        if not bool(squares.isfinite().all()):
            raise ValueError(
                "There are residuals that are not finite, and no noise variance to fit to them: look for NaN and "
                "infinity among the targets and the forecasts."
            )
        if granularity != "window":
            noise = NoiseVariance(granularity)
            noise.observe(squares)
            noise.update()
            assert noise.value is not None
            return cls(noise.value)
        assert scale is not None
        squared_scale = scale.double().square()
        tiny = torch.finfo(torch.float32).tiny
        floor = (_FLOOR * squared_scale.mean((0, 1))).clamp_min(tiny)
        factor = (squares.double() / (squared_scale + floor)).mean((0, 2)).unsqueeze(1).clamp_min(tiny)
        return cls(factor.cpu(), floor.cpu())

    def of(self, outputs: Tensor, scale: Tensor | None = None) -> Tensor:
        """
        Return the variance of each element of `outputs`, (B, ...).

        Args:
            scale: of the windows, (B, 1, C), if there is a floor.

        Raises:
            ValueError: the noise is that of outputs of another shape.
        """
        variance = self.variance
        shape = variance.shape if self.floor is None else (*variance.shape[:-1], *self.floor.shape)
        pairs = zip(reversed(shape), reversed(outputs.shape[1:]), strict=False)
        if len(shape) >= outputs.dim() or any(n not in (1, m) for n, m in pairs):
            raise ValueError(
                f"The noise variance is that of outputs of the shape {tuple(shape)}, and these are "
                f"{tuple(outputs.shape[1:])} an example: the posterior is that of another model."
            )
        variance = variance.to(outputs)
        if self.floor is not None:
            assert scale is not None, "noise of a model that does not normalise its windows"
            variance = variance * (scale.to(outputs).square() + self.floor.to(outputs))
        return variance.expand_as(outputs)
