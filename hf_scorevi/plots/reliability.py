"""The reliability diagram: whether a classifier is right as often as it predicts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy.typing as npt

from hf_scorevi.metrics import ReliabilityBins, reliability_bins
from hf_scorevi.plots._curves import named_errors, rate_points, require_entries
from hf_scorevi.plots._style import finish, look, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = tuple[npt.ArrayLike, npt.ArrayLike] | ReliabilityBins


def reliability_diagram(curves: Mapping[str, Curve], num_bins: int = 15, title: str | None = None) -> "Figure":
    """Draw accuracy against confidence, one curve for each entry, above a histogram of the confidences.

    Every filled bin is a point at its mean confidence and its accuracy, with the 95 % Wilson interval of the latter.
    On the dashed diagonal a model is calibrated, below it overconfident. The legend has each curve's ECE.

    Args:
        curves: name to (probabilities [examples, classes], labels [examples]), as `hf_scorevi.metrics.ece` takes them,
            or `ReliabilityBins`.
        num_bins: number of bins, at least 1, for probabilities and labels.
        title: a line above the picture.

    Returns:
        A `matplotlib.figure.Figure`, 700 pixels wide, tied to no window: `figure.savefig("reliability.png")`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no curve, or one whose inputs `hf_scorevi.metrics.reliability_bins` refuses.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (arXiv 1706.04599), figure 1.
    """
    figure = new_figure(7.0, "reliability_diagram")
    require_entries("curves", curves, "(probabilities, labels)")

    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], color="0.45", linestyle="--", linewidth=1.2, label="perfectly calibrated")

    for index, (name, curve) in enumerate(curves.items()):
        bins = _bins(name, curve, num_bins)
        filled = bins.counts > 0
        confidences, rates, counts = bins.mean_confidence[filled], bins.accuracy[filled], bins.counts[filled]
        rate_points(top, index, confidences, rates, counts, f"{name} (ECE {bins.ece:.3f})")
        color, _ = look(index)
        share = bins.counts / bins.counts.sum()
        bottom.stairs(share, bins.edges, color=color, linewidth=1.6)
        bottom.stairs(share, bins.edges, color=color, alpha=0.1, fill=True)

    top.set(xlim=(-0.015, 1.015), ylim=(-0.02, 1.02), ylabel="accuracy")  # room for whole markers at 0 and 1
    bottom.set(ylim=(0, None), xlabel="confidence (probability of the predicted class)", ylabel="share of predictions")
    finish(figure, title)
    return figure


def _bins(name: str, curve: Curve, num_bins: int) -> ReliabilityBins:
    if isinstance(curve, ReliabilityBins):
        return curve
    with named_errors(name):
        if not isinstance(curve, Sequence) or len(curve) != 2:
            raise ValueError("give (probabilities, labels) or ReliabilityBins")
        return reliability_bins(*curve, num_bins)
