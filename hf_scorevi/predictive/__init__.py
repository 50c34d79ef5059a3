"""The posterior predictive: draws, what is averaged over them, and what a prediction consists of."""

from .averages import LabelsAverage, OutputAverage, PredictiveAverage
from .collectors import ClassCollector, ForecastCollector, PathCollector, RegressionCollector
from .draws import drawn_outputs, vectorised_outputs
from .gaussian_noise import GaussianNoise
from .gaussian_scores import COVERAGES, GAUSSIAN_SCORES, gaussian_mixture_scores
from .moments import Moments
from .outputs import ForecastOutput, PredictiveOutput, RegressionOutput
from .paths import generated_paths
from .per_example import class_labels, per_example_scores
from .quantiles import mixture_quantiles, sample_quantiles

__all__ = [
    "COVERAGES",
    "GAUSSIAN_SCORES",
    "ClassCollector",
    "ForecastCollector",
    "ForecastOutput",
    "GaussianNoise",
    "LabelsAverage",
    "Moments",
    "OutputAverage",
    "PathCollector",
    "PredictiveAverage",
    "PredictiveOutput",
    "RegressionCollector",
    "RegressionOutput",
    "class_labels",
    "drawn_outputs",
    "gaussian_mixture_scores",
    "generated_paths",
    "mixture_quantiles",
    "per_example_scores",
    "sample_quantiles",
    "vectorised_outputs",
]
