"""The posterior predictive: draws, averages over them, and the objects that hold predictions."""

from .choice import Keep, Predictive, evaluated_predictive, predictive_of
from .classes import (
    CLASS_SCORES,
    NUM_BINS,
    TERM_SUMS,
    ClassPredictive,
    LabelsAverage,
    LabelsPredictive,
    PredictiveAverage,
    class_labels,
    per_example_scores,
)
from .densities import DensityPredictive, PathPredictive, expectation_and_log_density
from .draws import drawn_outputs, vectorised_outputs
from .gaussian_noise import GaussianNoise
from .moments import Moments
from .numbers import COVERAGES, GAUSSIAN_SCORES, GaussianPredictive, gaussian_mixture_scores
from .outputs import ForecastOutput, PredictiveOutput, RegressionOutput, SpanOutput
from .paths import generated_paths
from .quantiles import mixture_quantiles, sample_quantiles
from .tokens import PixelPredictive, SpanPredictive

__all__ = [
    "CLASS_SCORES",
    "COVERAGES",
    "GAUSSIAN_SCORES",
    "NUM_BINS",
    "TERM_SUMS",
    "ClassPredictive",
    "DensityPredictive",
    "ForecastOutput",
    "GaussianNoise",
    "GaussianPredictive",
    "Keep",
    "LabelsAverage",
    "LabelsPredictive",
    "Moments",
    "PathPredictive",
    "PixelPredictive",
    "Predictive",
    "PredictiveAverage",
    "PredictiveOutput",
    "RegressionOutput",
    "SpanOutput",
    "SpanPredictive",
    "class_labels",
    "drawn_outputs",
    "evaluated_predictive",
    "expectation_and_log_density",
    "gaussian_mixture_scores",
    "generated_paths",
    "mixture_quantiles",
    "per_example_scores",
    "predictive_of",
    "sample_quantiles",
    "vectorised_outputs",
]
