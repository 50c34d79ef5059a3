"""The posterior predictive: draws, what is averaged over them, and what a prediction consists of."""

from .averages import LabelsAverage, OutputAverage, PredictiveAverage
from .collectors import ClassCollector, RegressionCollector
from .draws import drawn_outputs, vectorised_outputs
from .moments import Moments
from .outputs import ForecastOutput, PredictiveOutput, RegressionOutput
from .per_example import class_labels, per_example_scores
from .quantiles import mixture_quantiles

__all__ = [
    "ClassCollector",
    "ForecastOutput",
    "LabelsAverage",
    "Moments",
    "OutputAverage",
    "PredictiveAverage",
    "PredictiveOutput",
    "RegressionCollector",
    "RegressionOutput",
    "class_labels",
    "drawn_outputs",
    "mixture_quantiles",
    "per_example_scores",
    "vectorised_outputs",
]
