"""
One figure a group: a panel a target, a line a method, evaluations of the score along x. A line at the top edge, 100
times the start, is a run that diverged.
"""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.evaluation.runs import METHODS, Run
from hf_scorevi.plots import COLORS

STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
LABELS = {
    "reverse_kl": "KL(q‖p) [nats]",
    "forward_kl": "KL(reference‖q) [nats]",
    "negative_elbo": "KL(q‖p) [nats]",  # the target is normalised
    "excess": "negative ELBO above the lowest [nats]",
}
QUANTITY = {  # what a group's figure shows of the traces
    "gaussian": "reverse_kl",
    "noisy": "reverse_kl",
    "sinh_arcsinh": "negative_elbo",
    "mixture": "negative_elbo",
    "posteriordb": "forward_kl",
    "data": "excess",
}
FLOOR = {"excess": 1e-1, "negative_elbo": 1e-4, "reverse_kl": 1e-14, "forward_kl": 1e-14}  # of a logarithmic axis


def curve(runs: Sequence[Run], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Median over seeds of a traced quantity; a run that stopped early keeps its last value."""
    key = "negative_elbo" if quantity == "excess" else quantity
    traces = []
    for run in runs:
        points = [(entry["evaluations"], entry.get(key, math.nan)) for entry in run.trace]
        traces.append(np.array([point for point in points if math.isfinite(point[1])]).reshape(-1, 2))
    traces = [trace for trace in traces if len(trace)]
    if not traces:
        return np.empty(0), np.empty(0)
    grid = np.unique(np.concatenate([trace[:, 0] for trace in traces]))
    positions = [np.searchsorted(trace[:, 0], grid, side="right") - 1 for trace in traces]
    values = [trace[np.maximum(index, 0), 1] for trace, index in zip(traces, positions, strict=True)]
    return grid, np.median(values, axis=0)


def draw_panel(axes: Axes, target: str, runs: Sequence[Run], quantity: str) -> None:
    curves = {name: curve([run for run in runs if run.method == name], quantity) for name in METHODS}
    lowest = min((y.min() for _, y in curves.values() if len(y)), default=0.0) if quantity == "excess" else 0.0
    starts = [y[0] - lowest for _, y in curves.values() if len(y)]
    ceiling = 100 * max([FLOOR[quantity], *starts])
    for index, (name, (x, y)) in enumerate(curves.items()):
        if len(x):
            y = np.clip(y - lowest, FLOOR[quantity], ceiling)  # what diverged must not set the scale
            axes.plot(np.maximum(x, 1), y, label=name, color=COLORS[index], linestyle=STYLES[index], linewidth=1.5)
    axes.set_title(target if len(target) < 34 else target.split("-", 1)[1], fontsize=9)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.tick_params(which="both", labelsize=8)


def group_figure(group: str, runs: Sequence[Run]) -> Figure:
    """The figure of one group's runs, tied to no window: `figure.savefig("gaussian.png")`."""
    quantity = QUANTITY[group]
    names = list(dict.fromkeys(run.target for run in runs))
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(max(3.3 * columns, 7.5), 2.6 * rows + 1.0), dpi=130, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        draw_panel(axes, name, [run for run in runs if run.target == name], quantity)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    handles = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="outside upper center", ncols=min(7, len(handles)), fontsize=9
        )
    figure.supxlabel("evaluations of the score (the start is drawn at 1)", fontsize=10)
    figure.supylabel(LABELS[quantity], fontsize=10)
    return figure
