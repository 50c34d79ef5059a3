"""What the modules of `evaluate` have in common: their inputs, and descriptions taken from the plain functions.

Only the metrics' scripts import this file: nothing else in the package needs `evaluate`.
"""

import inspect
from collections.abc import Callable
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
}


def metric_info(
    function: Callable[..., Any], inputs: Literal["labels", "distributions", "outliers", "draws"]
) -> evaluate.MetricInfo:
    """What `evaluate` asks of a module that calls `function`, whose docstring ends with its source."""
    features, meaning = _INPUTS[inputs]
    description, _, source = (inspect.getdoc(function) or "").partition("\n\nSource: ")
    return evaluate.MetricInfo(
        description=description,
        citation=source,
        inputs_description=f"\n\n{meaning}\nOther arguments: those of `hf_scorevi.metrics.{function.__name__}`.\n",
        features=features,
    )
