"""Choice of the class that makes a prediction from a model's draws, by the task of its head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..heads import Head
from .classes import ClassPredictive, LabelsPredictive
from .densities import DensityPredictive, PathPredictive
from .gaussian_noise import GaussianNoise
from .numbers import GaussianPredictive
from .tokens import PixelPredictive, SpanPredictive

__all__ = ["Keep", "Predictive", "evaluated_predictive", "predictive_of"]

Predictive = (
    ClassPredictive | LabelsPredictive | SpanPredictive | GaussianPredictive | DensityPredictive | PathPredictive
)


@dataclass(frozen=True)
class Keep:
    """
    Which results of a prediction are wanted.

    Attributes:
        temperature: of averaged probabilities.
        noise: of a Gaussian likelihood, if it is known.
        spread: standard deviations of logits.
        samples, logits: each draw's probabilities (or outputs, of numbers), and logits.
        quantile_levels: of numbers, in (0, 1).
        paths_per_draw: sample paths of forecasts; `None`: the number in the model's configuration, and none are kept.
        seed: of the noise in them.
    """

    temperature: float = 1.0
    noise: GaussianNoise | None = None
    spread: bool = True
    samples: bool = False
    logits: bool = False
    quantile_levels: Sequence[float] = ()
    paths_per_draw: int | None = None
    seed: int = 0


def predictive_of(head: Head, keep: Keep, labels: Tensor | None = None) -> Predictive:
    """
    Return an object that collects the draws of one batch.

    Args:
        labels: of pixels, (B, H, W), if the draws are to be scored against them.
    """
    how = {"spread": keep.spread, "samples": keep.samples, "logits": keep.logits}
    if head.likelihood == "distribution":
        keeps_samples = keep.samples or keep.logits
        return PathPredictive(keep.quantile_levels, samples=keeps_samples, paths=keep.paths_per_draw is not None)
    if head.likelihood == "gaussian":
        return GaussianPredictive(
            keep.noise,
            keep.quantile_levels,
            forecasts=head.forecasts,
            samples=keep.samples or keep.logits,
            paths_per_draw=keep.paths_per_draw or 0,
            seed=keep.seed,
        )
    if head.task == "labels":
        return LabelsPredictive(**how)
    if head.task == "spans":
        return SpanPredictive(keep.temperature, **how)
    if head.task == "pixels":
        return PixelPredictive(head, labels, keep.temperature, **how)
    return ClassPredictive(keep.temperature, by_term=head.counts_labels, **how)


def evaluated_predictive(head: Head, keep: Keep, labels: Tensor | None) -> Predictive:
    """
    Return an object that collects the draws of a batch with known targets; it judges a distribution by its densities.
    """
    return DensityPredictive() if head.likelihood == "distribution" else predictive_of(head, keep, labels)
