"""How q moves: score statistics, averaged curvature, the closed-form proximal step."""

from .curvature import CurvatureAverage, positive_mean
from .objective import gaussian_kl, gradient_update, proximal_objective, score_matching_loss
from .proximal import mean_step, objective, precision_ratio, precision_ratio_with_shift
from .schedule import ProximalSchedule
from .statistics import PairStatistic
from .update import ClosedFormUpdate

__all__ = [
    "ClosedFormUpdate",
    "CurvatureAverage",
    "PairStatistic",
    "ProximalSchedule",
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
