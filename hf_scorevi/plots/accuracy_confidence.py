"""Accuracy against confidence: how good the predictions are that a classifier is sure of."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hf_scorevi.metrics import wilson_interval
from hf_scorevi.plots._curves import LINES, Predictions, rate_line, top_labels
from hf_scorevi.plots._style import finish, look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THRESHOLDS = 201


def accuracy_confidence_curve(curves: Mapping[str, Predictions], title: str | None = None) -> "Figure":
    """Draw the accuracy of predictions of confidence τ or more against τ, above the share of such predictions.

    The band is the 95 % Wilson interval at each τ; it widens as predictions get few, and a line ends where none is as
    confident. The line of a model that knows what it does not know rises steeply while many predictions are kept. The
    legend has each model's accuracy on all examples, with which its line begins.

    Args:
        curves: name to (probabilities [examples, classes], labels [examples]), as `hf_scorevi.metrics.accuracy` takes
            them.
        title: a line above the picture.

    Returns:
        A `matplotlib.figure.Figure`, 700 pixels wide, tied to no window: `figure.savefig("confidence.png")`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no curve, or one whose inputs are no probabilities and labels.

    Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
        NeurIPS 2017 (arXiv 1612.01474), figure 6.
    """
    figure = new_figure(6.4, "accuracy_confidence_curve")
    models = list(top_labels(curves))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(5, 2))
    lowest = min(1 / num_classes for _, num_classes, _, _ in models)  # no confidence is below it
    thresholds = np.linspace(lowest, 1.0, THRESHOLDS)
    floor = 1.0
    for index, (name, _, confidences, correct) in enumerate(models):
        order = np.argsort(confidences)
        start = np.searchsorted(confidences[order], thresholds, side="left")
        counts = len(order) - start
        hits = np.append(np.cumsum(correct[order][::-1])[::-1], 0)[start]
        kept = counts > 0
        label = f"{name} (accuracy {correct.mean():.3f})"
        rates = hits[kept] / counts[kept]
        rate_line(top, index, thresholds[kept], rates, counts[kept], label)
        floor = min(floor, rates.min(), wilson_interval(rates[:1], counts[:1])[0][0])
        line = LINES[index % len(LINES)]
        bottom.plot(thresholds, counts / len(order), color=look(index)[0], linestyle=line, linewidth=1.6)
    # As low as the lines and the bands' left ends; where few predictions are left, bands may leave the picture.
    top.set(ylim=(max(floor - 0.03, -0.015), 1.015), ylabel="accuracy at confidence ≥ τ")
    bottom.set(xlim=(lowest, 1.0), ylim=(0, 1.03), xlabel="confidence threshold τ", ylabel="share kept")
    finish(figure, title)
    return figure
