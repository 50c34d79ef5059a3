"""
Metrics of predictive distributions: plain functions on arrays, each returning a dict that declares its conventions.
"""

from hf_scorevi.metrics.calibration import classification_metrics
from hf_scorevi.metrics.comparison import paired_bootstrap
from hf_scorevi.metrics.figures import FIGURES, Figure, find_figure
from hf_scorevi.metrics.functions.accuracy import accuracy
from hf_scorevi.metrics.functions.adaptive_ece import adaptive_ece
from hf_scorevi.metrics.functions.aurc import aurc
from hf_scorevi.metrics.functions.brier import brier
from hf_scorevi.metrics.functions.classwise_ece import classwise_ece
from hf_scorevi.metrics.functions.crps import crps
from hf_scorevi.metrics.functions.crps_gaussian_mixture import crps_gaussian_mixture
from hf_scorevi.metrics.functions.debiased_ece import debiased_ece
from hf_scorevi.metrics.functions.ece import ece
from hf_scorevi.metrics.functions.energy_score import energy_score
from hf_scorevi.metrics.functions.interval_coverage import interval_coverage
from hf_scorevi.metrics.functions.mase import mase
from hf_scorevi.metrics.functions.mce import mce
from hf_scorevi.metrics.functions.mixture_nll import mixture_nll
from hf_scorevi.metrics.functions.mse_mae import mse_mae
from hf_scorevi.metrics.functions.msis import msis
from hf_scorevi.metrics.functions.nll import nll, nll_from_log_probabilities
from hf_scorevi.metrics.functions.ood_detection import ood_detection
from hf_scorevi.metrics.functions.pooled_ece import pooled_ece
from hf_scorevi.metrics.functions.predictive_uncertainty import predictive_uncertainty
from hf_scorevi.metrics.functions.quantile_calibration_error import quantile_calibration_error
from hf_scorevi.metrics.functions.soft_ece import soft_ece
from hf_scorevi.metrics.functions.soft_nll import soft_nll
from hf_scorevi.metrics.functions.weighted_quantile_loss import weighted_quantile_loss
from hf_scorevi.metrics.intervals import wilson_interval
from hf_scorevi.metrics.per_example import summary_from_scores
from hf_scorevi.metrics.reliability import ReliabilityBins, bin_confidences, reliability_bins
from hf_scorevi.metrics.risk_coverage import RiskCoverage, risk_coverage_curve
from hf_scorevi.metrics.seasonality import seasonal_errors

__all__ = [
    "FIGURES",
    "Figure",
    "ReliabilityBins",
    "RiskCoverage",
    "accuracy",
    "adaptive_ece",
    "aurc",
    "bin_confidences",
    "brier",
    "classification_metrics",
    "classwise_ece",
    "crps",
    "crps_gaussian_mixture",
    "debiased_ece",
    "ece",
    "energy_score",
    "find_figure",
    "interval_coverage",
    "mase",
    "mce",
    "mixture_nll",
    "mse_mae",
    "msis",
    "nll",
    "nll_from_log_probabilities",
    "ood_detection",
    "paired_bootstrap",
    "pooled_ece",
    "predictive_uncertainty",
    "quantile_calibration_error",
    "reliability_bins",
    "risk_coverage_curve",
    "seasonal_errors",
    "soft_ece",
    "soft_nll",
    "summary_from_scores",
    "weighted_quantile_loss",
    "wilson_interval",
]
