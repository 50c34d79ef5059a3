"""The noise of observations in a Gaussian predictive."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["GaussianNoise"]


@dataclass(frozen=True)
class GaussianNoise:
    """
    Attributes:
        variance: σ², in squared units of the target, (), (C,), (H, 1) or (H, C); with a floor, what stands before
            scale² + floor, without units.
        floor: (C,), in squared units of the target, if the noise is proportional to the variance of the window that
            a forecast is made from; `None` if it does not depend on the window.
    """

    variance: Tensor
    floor: Tensor | None = None

    def of(self, outputs: Tensor, scale: Tensor | None = None) -> Tensor:
        """
        The variance of each element of `outputs`, (B, ...).

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
