"""The methods and families, and their objects from the user's arguments."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from ..numbers import real_number
from .advi import ADVI
from .bam import BatchAndMatch
from .gaussian import Gaussian
from .gradient import GradientScoreVI
from .gsm import GaussianScoreMatching
from .score_vi import ScoreVI

__all__ = ["FAMILIES", "METHODS", "Method", "first_gaussian", "make_method"]

METHODS = ("score_vi", "score_vi_gradient", "advi", "advi_stl", "gsm", "bam")
FAMILIES = ("full", "diagonal")


class Method(Protocol):
    """A method of `fit`: noise for the samples, and the step from their scores."""

    batch_size: int

    def noise(self, seed: int, step: int) -> Tensor:
        """Return (B, D) standard normal noise of step number `step`."""

    def step(self, q: Gaussian, z: Tensor, score: Tensor) -> Gaussian:
        """Return the next q, from the scores (B, D) at q.transform(z)."""


def make_method(
    method: str,
    family: str,
    dim: int,
    batch_size: int | None,
    max_evaluations: int,
    learning_rate: float | None,
    proximal_weight: float | str,
    antithetic: bool,
) -> Method:
    """Check the arguments of `fit` that belong to the method, and return the method's object."""
    if method not in METHODS:
        raise ValueError(f"Unknown method {method!r}; there are {', '.join(METHODS)}.")
    if family not in FAMILIES:
        raise ValueError(f"Unknown family {family!r}; there are {', '.join(FAMILIES)}.")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size!r}.")
    advi = method.startswith("advi")
    if antithetic and not advi:
        raise ValueError(f"antithetic belongs to advi and advi_stl; {method} does without.")
    if learning_rate is not None and not (advi or method == "score_vi_gradient"):
        raise ValueError(f"learning_rate belongs to score_vi_gradient, advi and advi_stl; {method} does without.")
    if learning_rate is not None:
        learning_rate = real_number("learning_rate", learning_rate, 1e-15, 1e15)
    weight: float | None = None
    if proximal_weight != "auto":
        if advi or method == "gsm":
            raise ValueError(f"proximal_weight belongs to score_vi, score_vi_gradient and bam; {method} has none.")
        if isinstance(proximal_weight, str) or not 0 < proximal_weight < math.inf:
            raise ValueError(f"proximal_weight must be a positive number or 'auto', not {proximal_weight!r}.")
        weight = float(proximal_weight)
    if advi:
        return ADVI(dim, batch_size, learning_rate, method == "advi_stl", antithetic, max_evaluations)
    if method == "score_vi_gradient":
        return GradientScoreVI(dim, batch_size, learning_rate, weight, max_evaluations)
    if method == "gsm":
        return GaussianScoreMatching(dim, batch_size)
    return BatchAndMatch(dim, batch_size, weight) if method == "bam" else ScoreVI(dim, batch_size, weight)


def first_gaussian(dim: int, family: str, init_mean: Tensor | None, init_std: float | Tensor) -> Gaussian:
    """Return the first q, after a check of its mean and standard deviations."""
    mean = torch.zeros(dim, dtype=torch.float64)
    if init_mean is not None:
        mean = torch.as_tensor(init_mean, dtype=torch.float64).clone()
    std = torch.as_tensor(init_std, dtype=torch.float64)
    if mean.shape != (dim,) or not bool(mean.isfinite().all()):
        raise ValueError(f"init_mean must be finite and of shape ({dim},), not of shape {tuple(mean.shape)}.")
    if std.shape not in ((), (dim,)) or not bool(((std > 0) & std.isfinite()).all()):
        raise ValueError(f"init_std must be positive and finite, a number or of shape ({dim},), not {init_std!r}.")
    std = std.expand(dim).clone()
    return Gaussian(mean, std if family == "diagonal" else torch.diag(std))
