"""The reliability diagram: whether a classifier is right as often as it says."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics import ReliabilityBins, reliability_bins, wilson_interval
from hf_scorevi.plots._style import COLORS, MARKERS, bare_frame, new_figure, outer_legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = tuple[npt.ArrayLike, npt.ArrayLike] | ReliabilityBins


def reliability_diagram(curves: Mapping[str, Curve], num_bins: int = 15, title: str | None = None) -> "Figure":
    """Accuracy against confidence, one curve for each entry, above a histogram of the confidences.

    Every filled bin is a point at its mean confidence and its accuracy, with the 95 % Wilson interval of the latter.
    On the dashed diagonal a model is calibrated, below it overconfident. The legend gives each curve's ECE.

    Args:
        curves: name to (probabilities [examples, classes], labels [examples]), as `hf_scorevi.metrics.ece` takes them,
            or to bins that are counted already.
        num_bins: number of bins, at least 1, for those that are not.
        title: a line above the picture.

    Returns:
        A `matplotlib.figure.Figure`, 700 pixels wide, tied to no window: `figure.savefig("reliability.png")`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no curve, or one whose inputs `hf_scorevi.metrics.reliability_bins` refuses.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017 (arXiv 1706.04599), figure 1.
    """
    figure = new_figure(7.0, "reliability_diagram")
    if not curves:
        raise ValueError("curves is empty: give at least one entry, name -> (probabilities, labels)")

    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], color="0.45", linestyle="--", linewidth=1.2, label="perfectly calibrated")

    for index, (name, curve) in enumerate(curves.items()):
        bins = _bins(name, curve, num_bins)
        color = COLORS[index % len(COLORS)]
        filled = bins.counts > 0
        rates = bins.accuracy[filled]
        low, high = wilson_interval(rates, bins.counts[filled])
        top.errorbar(
            bins.mean_confidence[filled],
            rates,
            yerr=(np.maximum(rates - low, 0.0), np.maximum(high - rates, 0.0)),  # 0 and 1 round to just outside
            color=color,
            marker=MARKERS[index % len(MARKERS)],
            markersize=5.5,
            linewidth=1.6,
            elinewidth=1.0,
            capsize=2.5,
            label=f"{name} (ECE {bins.ece:.3f})",
        )
        share = bins.counts / bins.counts.sum()
        bottom.stairs(share, bins.edges, color=color, linewidth=1.6)
        bottom.stairs(share, bins.edges, color=color, alpha=0.1, fill=True)

    top.set(xlim=(-0.015, 1.015), ylim=(-0.02, 1.02), ylabel="accuracy")  # room for whole markers at 0 and 1
    bottom.set(ylim=(0, None), xlabel="confidence (probability of the predicted class)", ylabel="share of predictions")
    for axes in (top, bottom):
        bare_frame(axes)
    outer_legend(figure, title)
    return figure


def _bins(name: str, curve: Curve, num_bins: int) -> ReliabilityBins:
    if isinstance(curve, ReliabilityBins):
        return curve
    if not isinstance(curve, Sequence) or len(curve) != 2:
        raise ValueError(f"curve {name!r}: give (probabilities, labels) or ReliabilityBins")
    try:
        return reliability_bins(*curve, num_bins)
    except ValueError as error:
        raise ValueError(f"curve {name!r}: {error}") from error
