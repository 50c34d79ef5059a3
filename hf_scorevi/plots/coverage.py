"""The coverage diagram: whether prediction intervals hold the observed values as often as they should."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.inputs import as_array
from hf_scorevi.plots._curves import rate_points, require_entries
from hf_scorevi.plots._style import finish, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_APART = 0.007  # of the models' error bars at one level
Curve = tuple[npt.ArrayLike, npt.ArrayLike, int]


def coverage_diagram(curves: Mapping[str, Curve], title: str | None = None) -> "Figure":
    """Draw observed against nominal coverage of central prediction intervals, one curve a model, and the difference.

    Every level is a point with the 95 % Wilson interval of its coverage, those of several models side by side. Below
    the dashed line intervals are too narrow, above it too wide. The legend has each model's absolute difference,
    averaged over levels.

    Args:
        curves: name to (levels, coverage, number of examples), as `hf_scorevi.metrics.interval_coverage` returns the
            first two for so many examples. The Wilson interval assumes that these are independent; windows that
            overlap and steps of one horizon are not, so that the coverage is less certain than it shows.
        title: a line above the picture.

    Returns:
        A `matplotlib.figure.Figure`, 700 pixels wide, tied to no window: `figure.savefig("coverage.png")`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no curve, or one that has no coverage for each level, a level or coverage outside of [0, 1], or no
            example.

    Source: Gneiting, Balabdaoui and Raftery, "Probabilistic forecasts, calibration and sharpness", JRSS B 69 (2007);
        Wilson, JASA 22 (1927), for the intervals.
    """
    require_entries("curves", curves, "(levels, coverage, number of examples)")
    checked = {name: _checked(name, curve) for name, curve in curves.items()}
    figure = new_figure(7.0, "coverage_diagram")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    top.plot([0, 1], [0, 1], color="0.45", linestyle="--", linewidth=1.2, label="as wide as they say")
    bottom.axhline(0, color="0.45", linestyle="--", linewidth=1.2)
    for index, (name, (levels, rates, counts)) in enumerate(checked.items()):
        beside = levels + _APART * (index - (len(checked) - 1) / 2)
        label = f"{name} (mean difference {np.abs(rates - levels).mean():.3f})"
        rate_points(top, index, beside, rates, counts, label)
        rate_points(bottom, index, beside, rates, counts, None, minus=levels)
    top.set(xlim=(-0.015, 1.015), ylim=(-0.02, 1.02), ylabel="observed coverage")
    bottom.set(xlabel="nominal coverage of the central interval", ylabel="observed − nominal")
    finish(figure, title)
    return figure


def _checked(name: str, curve: Curve) -> tuple[npt.NDArray[Any], ...]:
    """Return the levels in order, their coverage, and the number of examples of each."""
    if not isinstance(curve, Sequence) or len(curve) != 3:
        raise ValueError(f"curve {name!r}: give (levels, coverage, number of examples)")
    levels, rates = (as_array(own, f"curve {name!r}").astype(np.float64) for own in curve[:2])
    if levels.ndim != 1 or levels.shape != rates.shape or not levels.size:
        raise ValueError(
            f"curve {name!r}: levels and coverage must have one shape [levels], at least one, not "
            f"{list(levels.shape)} and {list(rates.shape)}"
        )
    for what, values in (("levels", levels), ("coverage", rates)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"curve {name!r}: {what} must lie in [0, 1], not {values.tolist()}")
    if not curve[2] >= 1:
        raise ValueError(f"curve {name!r}: the number of examples must be at least 1, not {curve[2]!r}")
    order = np.argsort(levels)
    return levels[order], rates[order], np.full(len(order), curve[2])
