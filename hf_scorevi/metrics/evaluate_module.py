"""The metrics' plain functions as modules of `evaluate`.

Only the metrics' scripts import this file: nothing else in the package needs `evaluate`.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import evaluate
from datasets import Features, Sequence, Value

# In float64, so that nothing is rounded on the way and a module's value is the function's.
_NUMBER, _INDEX = Value("float64"), Value("int64")
_INPUTS = {
    "labels": (
        Features({"predictions": Sequence(_NUMBER), "references": _INDEX}),
        "predictions: probabilities [examples, classes], rows sum to one.\nreferences: class indices [examples].",
    ),
    "distributions": (
        Features({"predictions": Sequence(_NUMBER), "references": Sequence(_NUMBER)}),
        "predictions: probabilities [examples, classes], rows sum to one.\n"
        "references: shares of the annotators' labels [examples, classes], rows sum to one.",
    ),
    "outliers": (
        Features({"predictions": _NUMBER, "references": _INDEX}),
        "predictions: scores [examples], higher means out-of-distribution.\n"
        "references: 0 for in-distribution and 1 for out-of-distribution [examples].",
    ),
    "draws": (
        Features({"predictions": Sequence(Sequence(_NUMBER))}),
        "predictions: probabilities of each draw [examples, draws, classes], the last axis sums to one.",
    ),
    "samples": (
        Features({"predictions": Sequence(_NUMBER), "references": _NUMBER}),
        "predictions: samples of the predictive [examples, samples].\nreferences: observed values [examples].",
    ),
    "scaled_samples": (
        Features({"predictions": Sequence(_NUMBER), "references": _NUMBER, "seasonal_errors": _NUMBER}),
        "predictions: samples of the predictive [examples, samples].\nreferences: observed values [examples].\n"
        "seasonal_errors: of the history of the example's series [examples].",
    ),
    "vectors": (
        Features({"predictions": Sequence(Sequence(_NUMBER)), "references": Sequence(_NUMBER)}),
        "predictions: samples of the predictive [examples, samples, dimensions].\n"
        "references: observed values [examples, dimensions].",
    ),
    "quantiles": (
        Features({"predictions": Sequence(_NUMBER), "references": _NUMBER}),
        "predictions: quantiles of the predictive [examples, levels].\nreferences: observed values [examples].",
    ),
    "gaussians": (
        Features({"predictions": Sequence(_NUMBER), "standard_deviations": Sequence(_NUMBER), "references": _NUMBER}),
        "predictions: means [examples, components].\nstandard_deviations: [examples, components].\n"
        "references: observed values [examples].",
    ),
}

_METRICS = {
    "labels": (
        "accuracy",
        "adaptive_ece",
        "aurc",
        "brier",
        "classwise_ece",
        "debiased_ece",
        "ece",
        "mce",
        "nll",
        "pooled_ece",
    ),
    "distributions": ("soft_ece", "soft_nll"),
    "outliers": ("ood_detection",),
    "draws": ("predictive_uncertainty",),
    "samples": ("crps", "interval_coverage", "mse_mae", "quantile_calibration_error"),
    "scaled_samples": ("mase", "msis"),
    "vectors": ("energy_score",),
    "quantiles": ("weighted_quantile_loss",),
    "gaussians": ("crps_gaussian_mixture", "mixture_nll"),
}
_INPUTS_OF = {metric: inputs for inputs, metrics in _METRICS.items() for metric in metrics}


def evaluate_module(name: str, script: str) -> type[evaluate.Metric]:
    """Return the class that `evaluate` looks for in the script of a metric.

    Args:
        name: of the metric, whose plain function's docstring ends with its source.
        script: `__name__` of the script, where the class must have the metric's name in CamelCase to be pickled.
    """
    # Imported by name: `from hf_scorevi.metrics import ece` would, to a type checker, be the script ece/ece.py.
    module = import_module(f"hf_scorevi.metrics.functions.{name}")
    function: Callable[..., dict[str, Any]] = getattr(module, name)
    features, meaning = _INPUTS[_INPUTS_OF[name]]
    description, _, source = (inspect.getdoc(function) or "").partition("\n\nSource: ")
    ways = "".join(f"{figure.name}: {figure.direction}.\n" for figure in module.FIGURES if figure.direction)

    class Module(evaluate.Metric):
        def _info(self) -> evaluate.MetricInfo:
            return evaluate.MetricInfo(
                description=f"{description}\n\n{ways}" if ways else description,
                citation=source,
                inputs_description=f"\n\n{meaning}\nOther arguments: those of `hf_scorevi.metrics.{name}`.\n",
                features=features,
            )

        def _compute(self, **arguments: Any) -> dict[str, Any]:
            inputs = [arguments.pop(key) for key in features]
            return function(*inputs, **arguments)

    Module.__module__ = script
    Module.__name__ = Module.__qualname__ = name.title().replace("_", "")
    Module.__doc__ = f"See `hf_scorevi.metrics.{name}`."
    return Module
