"""What the modules of `evaluate` have in common: their inputs, and descriptions taken from the plain functions.

Only the metrics' scripts import this file: nothing else in the package needs `evaluate`.
"""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

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
        "predictions: samples of the predictive [examples, samples].\nreferences: what came [examples].",
    ),
    "scaled_samples": (
        Features({"predictions": Sequence(_NUMBER), "references": _NUMBER, "seasonal_errors": _NUMBER}),
        "predictions: samples of the predictive [examples, samples].\nreferences: what came [examples].\n"
        "seasonal_errors: of the history of the example's series [examples].",
    ),
    "vectors": (
        Features({"predictions": Sequence(Sequence(_NUMBER)), "references": Sequence(_NUMBER)}),
        "predictions: samples of the predictive [examples, samples, dimensions].\n"
        "references: what came [examples, dimensions].",
    ),
    "quantiles": (
        Features({"predictions": Sequence(_NUMBER), "references": _NUMBER}),
        "predictions: quantiles of the predictive [examples, levels].\nreferences: what came [examples].",
    ),
    "gaussians": (
        Features({"predictions": Sequence(_NUMBER), "standard_deviations": Sequence(_NUMBER), "references": _NUMBER}),
        "predictions: means [examples, components].\nstandard_deviations: [examples, components].\n"
        "references: what came [examples].",
    ),
}


Inputs = Literal[
    "labels",
    "distributions",
    "outliers",
    "draws",
    "samples",
    "scaled_samples",
    "vectors",
    "quantiles",
    "gaussians",
]


def metric_info(name: str, inputs: Inputs) -> evaluate.MetricInfo:
    """What `evaluate` asks of the module of a metric, whose plain function's docstring ends with its source."""
    features, meaning = _INPUTS[inputs]
    description, _, source = (inspect.getdoc(_plain_function(name)) or "").partition("\n\nSource: ")
    figures = import_module(f"hf_scorevi.metrics.{name}.function").FIGURES
    ways = "".join(f"{figure.name}: {figure.direction}.\n" for figure in figures if figure.direction)
    return evaluate.MetricInfo(
        description=f"{description}\n\n{ways}" if ways else description,
        citation=source,
        inputs_description=f"\n\n{meaning}\nOther arguments: those of `hf_scorevi.metrics.{name}`.\n",
        features=features,
    )


def compute(name: str, *inputs: Any, **options: Any) -> dict[str, Any]:
    """The value of a metric's plain function."""
    return _plain_function(name)(*inputs, **options)


def _plain_function(name: str) -> Callable[..., Any]:
    # By name: a script that imported `ece` from here would, to a type checker, import itself, ece/ece.py.
    return getattr(import_module("hf_scorevi.metrics"), name)
