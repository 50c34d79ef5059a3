"""Metrics of predictive probabilities: plain functions on arrays, each giving a dict that declares its conventions."""

from hf_scorevi.metrics.accuracy import accuracy
from hf_scorevi.metrics.brier import brier
from hf_scorevi.metrics.calibration import classification_metrics
from hf_scorevi.metrics.ece import ece
from hf_scorevi.metrics.nll import nll, nll_from_log_probabilities
from hf_scorevi.metrics.reliability import ReliabilityBins, reliability_bins

__all__ = [
    "ReliabilityBins",
    "accuracy",
    "brier",
    "classification_metrics",
    "ece",
    "nll",
    "nll_from_log_probabilities",
    "reliability_bins",
]
