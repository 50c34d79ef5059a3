"""Inference, by which q moves: score statistics, averaged curvature, the closed-form proximal step."""

from .closed_form import ClosedFormUpdate
from .curvature import CurvatureAverage, positive_mean
from .elbo import ElboUpdate
from .low_rank import LowRankUpdate
from .noise_variance import GRANULARITIES, NoiseVariance
from .objective import InnerLoop, gaussian_kl, gradient_update, proximal_objective, score_matching_loss
from .proximal import mean_step, objective, precision_ratio, precision_ratio_with_shift
from .schedule import ProximalSchedule
from .statistics import ScoreStatistic
from .update import PosteriorUpdate

__all__ = [
    "GRANULARITIES",
    "ClosedFormUpdate",
    "CurvatureAverage",
    "ElboUpdate",
    "InnerLoop",
    "LowRankUpdate",
    "NoiseVariance",
    "PosteriorUpdate",
    "ProximalSchedule",
    "ScoreStatistic",
    "gaussian_kl",
    "gradient_update",
    "mean_step",
    "objective",
    "positive_mean",
    "precision_ratio",
    "precision_ratio_with_shift",
    "proximal_objective",
    "score_matching_loss",
]
