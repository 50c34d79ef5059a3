"""Metrics of predictive distributions: plain functions on arrays, each giving a dict that declares its conventions."""

from hf_scorevi.metrics.accuracy.function import accuracy
from hf_scorevi.metrics.adaptive_ece.function import adaptive_ece
from hf_scorevi.metrics.aurc.function import aurc
from hf_scorevi.metrics.brier.function import brier
from hf_scorevi.metrics.calibration import classification_metrics
from hf_scorevi.metrics.classwise_ece.function import classwise_ece
from hf_scorevi.metrics.comparison import paired_bootstrap
from hf_scorevi.metrics.crps.function import crps
from hf_scorevi.metrics.crps_gaussian_mixture.function import crps_gaussian_mixture
from hf_scorevi.metrics.debiased_ece.function import debiased_ece
from hf_scorevi.metrics.ece.function import ece
from hf_scorevi.metrics.energy_score.function import energy_score
from hf_scorevi.metrics.figures import FIGURES, Figure, find_figure
from hf_scorevi.metrics.interval_coverage.function import interval_coverage
from hf_scorevi.metrics.intervals import wilson_interval
from hf_scorevi.metrics.mase.function import mase
from hf_scorevi.metrics.mce.function import mce
from hf_scorevi.metrics.mixture_nll.function import mixture_nll
from hf_scorevi.metrics.mse_mae.function import mse_mae
from hf_scorevi.metrics.msis.function import msis
from hf_scorevi.metrics.nll.function import nll, nll_from_log_probabilities
from hf_scorevi.metrics.ood_detection.function import ood_detection
from hf_scorevi.metrics.per_example import summary_from_scores
from hf_scorevi.metrics.pooled_ece.function import pooled_ece
from hf_scorevi.metrics.predictive_uncertainty.function import predictive_uncertainty
from hf_scorevi.metrics.quantile_calibration_error.function import quantile_calibration_error
from hf_scorevi.metrics.reliability import ReliabilityBins, bin_confidences, reliability_bins
from hf_scorevi.metrics.risk_coverage import RiskCoverage, risk_coverage_curve
from hf_scorevi.metrics.seasonality import seasonal_errors
from hf_scorevi.metrics.soft_ece.function import soft_ece
from hf_scorevi.metrics.soft_nll.function import soft_nll
from hf_scorevi.metrics.weighted_quantile_loss.function import weighted_quantile_loss

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
