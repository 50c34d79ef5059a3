"""Metrics of predictive probabilities: plain functions on arrays, each giving a dict that declares its conventions."""

from hf_scorevi.metrics.accuracy.function import accuracy
from hf_scorevi.metrics.adaptive_ece.function import adaptive_ece
from hf_scorevi.metrics.aurc.function import aurc
from hf_scorevi.metrics.brier.function import brier
from hf_scorevi.metrics.calibration import classification_metrics
from hf_scorevi.metrics.classwise_ece.function import classwise_ece
from hf_scorevi.metrics.comparison import paired_bootstrap
from hf_scorevi.metrics.debiased_ece.function import debiased_ece
from hf_scorevi.metrics.ece.function import ece
from hf_scorevi.metrics.intervals import wilson_interval
from hf_scorevi.metrics.mce.function import mce
from hf_scorevi.metrics.nll.function import nll, nll_from_log_probabilities
from hf_scorevi.metrics.ood_detection.function import ood_detection
from hf_scorevi.metrics.per_example import summary_from_scores
from hf_scorevi.metrics.pooled_ece.function import pooled_ece
from hf_scorevi.metrics.predictive_uncertainty.function import predictive_uncertainty
from hf_scorevi.metrics.reliability import ReliabilityBins, bin_confidences, reliability_bins
from hf_scorevi.metrics.risk_coverage import RiskCoverage, risk_coverage_curve
from hf_scorevi.metrics.soft_ece.function import soft_ece
from hf_scorevi.metrics.soft_nll.function import soft_nll

__all__ = [
    "ReliabilityBins",
    "RiskCoverage",
    "accuracy",
    "adaptive_ece",
    "aurc",
    "bin_confidences",
    "brier",
    "classification_metrics",
    "classwise_ece",
    "debiased_ece",
    "ece",
    "mce",
    "nll",
    "nll_from_log_probabilities",
    "ood_detection",
    "paired_bootstrap",
    "pooled_ece",
    "predictive_uncertainty",
    "reliability_bins",
    "risk_coverage_curve",
    "soft_ece",
    "soft_nll",
    "summary_from_scores",
    "wilson_interval",
]
