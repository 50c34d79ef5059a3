"""Metrics of predictive probabilities: plain functions on arrays, each giving a dict that declares its conventions."""

from hf_scorevi.metrics.accuracy import accuracy
from hf_scorevi.metrics.adaptive_ece import adaptive_ece
from hf_scorevi.metrics.brier import brier
from hf_scorevi.metrics.calibration import classification_metrics
from hf_scorevi.metrics.classwise_ece import classwise_ece
from hf_scorevi.metrics.ece import ece
from hf_scorevi.metrics.nll import nll, nll_from_log_probabilities
from hf_scorevi.metrics.per_example import summary_from_scores
from hf_scorevi.metrics.reliability import ReliabilityBins, bin_confidences, reliability_bins

__all__ = [
    "ReliabilityBins",
    "accuracy",
    "adaptive_ece",
    "bin_confidences",
    "brier",
    "classification_metrics",
    "classwise_ece",
    "ece",
    "nll",
    "nll_from_log_probabilities",
    "reliability_bins",
    "summary_from_scores",
]
