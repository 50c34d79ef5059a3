"""The posterior q(θ): families, prior, which weights, draws, temperature."""

from .config import PosteriorConfig
from .divergence import kl_to_prior, mean_variance, posterior_figures
from .families import FAMILIES, ClosedFormFamily, GaussianFamily, LowRankGaussian
from .noise import draw_seed, mix, standard_normal
from .posterior import Drawn, Posterior, weight_scales
from .prior import GaussianPrior
from .selection import select_parameters
from .shards import local, named_parameters
from .summary import TensorSummary, summarise
from .temperature import resolve_temperature

__all__ = [
    "FAMILIES",
    "ClosedFormFamily",
    "Drawn",
    "GaussianFamily",
    "GaussianPrior",
    "LowRankGaussian",
    "Posterior",
    "PosteriorConfig",
    "TensorSummary",
    "draw_seed",
    "kl_to_prior",
    "local",
    "mean_variance",
    "mix",
    "named_parameters",
    "posterior_figures",
    "resolve_temperature",
    "select_parameters",
    "standard_normal",
    "summarise",
    "weight_scales",
]
