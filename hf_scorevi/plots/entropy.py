"""The entropy histogram: whether a model is less certain of what it was not trained for."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics import ood_detection
from hf_scorevi.metrics.inputs import as_array, check_num_bins, refuse_not_real
from hf_scorevi.plots._curves import require_entries
from hf_scorevi.plots._layers import shortened
from hf_scorevi.plots._style import COLORS, finish, new_figure, panel_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME_WIDTH = 60
# Colour, line and label of what is in and out of distribution.
_LOOKS = (
    (COLORS[0], "-", "in distribution"),
    (COLORS[1], "--", "out of distribution"),
)


def entropy_histogram(
    scores: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    num_bins: int = 30,
    title: str | None = None,
    label: str = "predictive entropy (nats)",
) -> "Figure":
    """Draw densities of an uncertainty score in and out of distribution, one panel a model, on the same bins.

    Above each panel stands the model's AUROC: the probability that an example from outside scores higher than one from
    inside. It is 0.5 for a model that cannot tell them apart. The panels' densities have their own scales.

    Args:
        scores: name to (scores in distribution [examples], scores out of distribution [examples]); higher is less
            certain. Both sets may differ in size.
        num_bins: number of bins of equal width from the lowest of all scores to the highest.
        title: a line above the picture.
        label: what the scores are, for the axis.

    Returns:
        A `matplotlib.figure.Figure`, 700 pixels wide, tied to no window: `figure.savefig("entropy.png")`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no model, scores that are empty, of another shape or not finite, num_bins < 1.

    Source: Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles",
        NeurIPS 2017 (arXiv 1612.01474), figure 3.
    """
    check_num_bins(num_bins)
    require_entries("scores", scores, "(in distribution, out of distribution)")
    models = {name: _both(name, pair) for name, pair in scores.items()}
    figure = new_figure(1.3 + 1.8 * len(models), "entropy_histogram")
    panels = figure.subplots(len(models), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.histogram_bin_edges(np.concatenate([part for both in models.values() for part in both]), num_bins)
    for axes, name, (inside, outside) in zip(
        panels, shortened(list(models), NAME_WIDTH), models.values(), strict=True
    ):
        labels = np.repeat([0, 1], [len(inside), len(outside)])
        auroc = ood_detection(np.concatenate([inside, outside]), labels)["auroc"]
        for part, (color, line, what) in zip((inside, outside), _LOOKS, strict=True):
            density, _ = np.histogram(part, edges, density=True)
            axes.stairs(density, edges, color=color, alpha=0.15, fill=True)
            axes.stairs(
                density,
                edges,
                color=color,
                linestyle=line,
                linewidth=1.6,
                label=what if axes is panels[0] else None,
            )
        axes.set(ylim=(0, None), ylabel="density")
        panel_title(axes, f"{name} (AUROC {auroc:.3f})")
    panels[-1].set(xlabel=label)
    finish(figure, title, columns=2)
    return figure


def _both(
    name: str, pair: tuple[npt.ArrayLike, npt.ArrayLike]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise ValueError(f"{name!r}: give (scores in distribution, scores out of distribution)")
    return _checked(name, pair[0], "in"), _checked(name, pair[1], "out of")


def _checked(name: str, values: npt.ArrayLike, which: str) -> npt.NDArray[np.float64]:
    what = f"{name!r}: scores {which} distribution"
    array = as_array(values, what)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{what} must have the shape [examples], at least one, not {list(array.shape)}")
    refuse_not_real(array, what)
    finite = np.isfinite(array)
    if not finite.all():
        index = int(np.argmin(finite))
        raise ValueError(f"{what} hold {array[index]} at {index}: the model's outputs overflowed")
    return array.astype(np.float64)
