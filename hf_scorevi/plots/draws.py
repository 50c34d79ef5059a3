"""Metrics against the number of posterior draws: how many a predictive needs."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from hf_scorevi.metrics import find_figure
from hf_scorevi.plots._style import finish, look, new_figure, panel_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Figures = Mapping[str, float | None]


def metrics_by_draws(
    runs: Mapping[str, Sequence[Figures]],
    mean: Mapping[str, Figures] | None = None,
    metrics: Sequence[str] = ("nll", "ece", "accuracy", "brier"),
    title: str | None = None,
) -> "Figure":
    """Draw figures of the posterior predictive against the number of draws averaged over, one panel a metric.

    The axis of draws is logarithmic with base two. The dotted lines are the figures of the mean weights alone, which
    need no draw.

    Args:
        runs: name to figures after different numbers of draws, each with its `num_samples`, such as
            `Evaluation.by_num_samples`. Figures that are missing, None or not finite are left out.
        mean: name (of those in `runs`) to figures of the mean weights.
        metrics: names of figures; those that no run has are left out.
        title: a line above the picture.

    Returns:
        A `matplotlib.figure.Figure`, 700 pixels wide, tied to no window: `figure.savefig("draws.png")`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: nothing to draw, a number of draws missing, repeated or below 1, or a mean of no run.
    """
    mean = mean or {}
    curves = {name: _sorted(name, run) for name, run in runs.items()}
    if unknown := [name for name in mean if name not in curves]:
        raise ValueError(f"mean has {unknown[0]!r}, which runs has not: the names are {', '.join(curves)}")
    shown = [metric for metric in metrics if any(_points(run, metric) for run in curves.values())]
    if not shown:
        raise ValueError(f"runs has none of the figures {', '.join(metrics)}: there is nothing to draw")
    columns = min(len(shown), 2)
    rows = math.ceil(len(shown) / columns)
    figure = new_figure(1.2 + 0.22 * len(curves) + 2.3 * rows, "metrics_by_draws")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axes, metric in zip(panels, shown, strict=False):
        for index, (name, run) in enumerate(curves.items()):
            color, marker = look(index)
            points = _points(run, metric)
            axes.plot(
                [draws for draws, _ in points],
                [value for _, value in points],
                color=color,
                marker=marker,
                markersize=5,
                linewidth=1.6,
                label=name if metric == shown[0] else None,
            )
            value = mean.get(name, {}).get(metric)
            if value is not None and math.isfinite(value):
                axes.axhline(value, color=color, linestyle=":", linewidth=1.4)
        panel_title(axes, _title(metric))
    _number_draws(panels[0], sorted({int(own["num_samples"] or 0) for run in curves.values() for own in run}))
    for axes in panels[len(shown) :]:
        axes.remove()
    for axes in panels[: len(shown)][-columns:]:
        axes.set_xlabel("posterior draws")
        axes.tick_params(labelbottom=True)
    if mean:
        panels[0].plot([], [], color="0.4", linestyle=":", linewidth=1.4, label="mean weights alone")
    finish(figure, title)
    return figure


def _title(metric: str) -> str:
    """Return the line above the panel of a metric."""
    figure = find_figure(metric)
    if figure is None:
        return metric
    unit = f" ({figure.unit})" if figure.unit else ""
    return ", ".join(filter(None, (figure.label + unit, figure.direction)))


def _sorted(name: str, run: Sequence[Figures]) -> list[Figures]:
    """Return the figures in the order of their number of draws."""
    for own in run:
        draws = own.get("num_samples")
        if isinstance(draws, bool) or draws is None or not math.isfinite(draws) or draws != int(draws) or draws < 1:
            raise ValueError(f"run {name!r}: num_samples is {draws!r}, and must be a whole number of at least 1")
    ordered = sorted(run, key=lambda own: own["num_samples"] or 0)
    for before, after in pairwise(ordered):
        if before["num_samples"] == after["num_samples"]:
            raise ValueError(f"run {name!r} has the figures after {after['num_samples']} draws twice")
    return ordered


def _points(run: Sequence[Figures], metric: str) -> list[tuple[float, float]]:
    """Return numbers of draws with their figures, where there are any."""
    found = [(own["num_samples"], own.get(metric)) for own in run]
    return [(draws, value) for draws, value in found if draws and value is not None and math.isfinite(value)]


def _number_draws(axes: "Axes", draws: Sequence[int]) -> None:
    """Set a logarithmic axis with ticks at powers of two, at most eight."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log", base=2)
    axes.set_xlim(draws[0] / 1.25, draws[-1] * 1.25)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
