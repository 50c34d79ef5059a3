"""The figures of all metrics by their names, with the direction that is better."""

from collections.abc import Collection
from importlib import import_module

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.loading import metric_names

__all__ = ["FIGURES", "Figure", "find_figure"]

FIGURES: dict[str, Figure] = {
    figure.name: figure
    for metric in metric_names()
    for figure in import_module(f"hf_scorevi.metrics.functions.{metric}").FIGURES
}
# exp(nll), which an evaluation of tokens reports beside it.
FIGURES["perplexity"] = Figure("perplexity", "perplexity", greater_is_better=False)
# Before the name of a figure in an evaluation's result: of which part of the data, and of which predictions.
_STARTS = ("eval_", "test_", "train_")
_MEAN = "mean_"


def find_figure(name: str, datasets: Collection[str] = ()) -> Figure | None:
    """Return the figure of this name, or `None` if no metric of this library has it.

    Args:
        name: as in a metric's result, or in that of an evaluation: `"crps"`, `"eval_crps"`, `"eval_mean_crps"`.
        datasets: names of the data sets that are evaluated, for `"eval_<data set>_crps"`.
    """
    names = {name} | {name.removeprefix(start) for start in _STARTS if name.startswith(start)}
    names |= {own.removeprefix(f"{dataset}_") for own in names for dataset in datasets}
    for own in sorted(names, key=len):
        found = FIGURES.get(own) or FIGURES.get(own.removeprefix(_MEAN))
        if found is not None:
            return found
    return None
