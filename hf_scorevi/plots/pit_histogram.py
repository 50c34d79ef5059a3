"""The PIT histogram: whether the observed values are spread over the predictive as they should be."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_scorevi.plots._curves import require_entries
from hf_scorevi.plots._layers import shortened
from hf_scorevi.plots._style import COLORS, finish, new_figure, panel_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME_WIDTH = 40


def pit_histogram(results: Mapping[str, Mapping[str, Any]], title: str | None = None) -> "Figure":
    """Draw frequencies of the probability integral transform, relative to a uniform's, one panel a model.

    The bins of a calibrated forecast lie on the dashed line. A predictive that is too narrow has a histogram that is
    high at both ends, one that is too wide is high in the middle, and one that is shifted has a slope. The band holds
    each bin's count with probability 95 % if the values are independent and uniform; forecasts that overlap depend on
    each other, so theirs scatter more. Above each panel stands the model's quantile calibration error.

    Args:
        results: name to the result of `hf_scorevi.metrics.quantile_calibration_error`, of at least two bins.
        title: a line above the picture.

    Returns:
        A `matplotlib.figure.Figure`, 700 pixels wide, tied to no window: `figure.savefig("pit.png")`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no model, or one whose result has no such histogram.

    Source: Czado, Gneiting and Held, "Predictive Model Assessment for Count Data", Biometrics 65 (2009); Gneiting,
        Balabdaoui and Raftery, "Probabilistic forecasts, calibration and sharpness", JRSS B 69 (2007), for its shapes.
    """
    require_entries("results", results, "quantile_calibration_error(…)")
    models = [(name, _counts(name, result), result["quantile_calibration_error"]) for name, result in results.items()]
    figure = new_figure(1.3 + (3.6 if len(models) == 1 else 1.9) * len(models), "pit_histogram")
    panels = figure.subplots(len(models), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    names = shortened(list(results), NAME_WIDTH)
    for axes, name, (_, counts, error) in zip(panels, names, models, strict=True):
        bins = len(counts)
        expected = counts.sum() / bins
        edges = np.arange(bins + 1) / bins
        low, high = (end / expected for end in binomial_interval(int(counts.sum()), 1 / bins))
        is_first = axes is panels[0]
        axes.stairs(counts / expected, edges, color=COLORS[0], alpha=0.3, fill=True)
        axes.stairs(counts / expected, edges, color=COLORS[0], linewidth=1.6, label="forecasts" if is_first else None)
        axes.fill_between(
            [0, 1], low, high, color="0.3", alpha=0.25, linewidth=0, label="95 % if calibrated" if is_first else None
        )
        axes.axhline(1, color="0.3", linestyle="--", linewidth=1.2, label="uniform" if is_first else None)
        axes.set_ylabel("relative frequency")
        panel_title(axes, f"{name} (quantile calibration error {error:.3g})")
    panels[-1].set(xlim=(0, 1), ylim=(0, None), xlabel="PIT: predictive probability of less than what came")
    finish(figure, title, columns=3)
    return figure


def binomial_interval(count: int, probability: float) -> tuple[int, int]:
    """Return the 2.5 % and the 97.5 % quantile of the successes in `count` trials, for 0 < probability < 1."""
    successes = np.arange(count)
    steps = np.log((count - successes) / (successes + 1)) + np.log(probability / (1 - probability))
    log_masses = count * np.log1p(-probability) + np.concatenate([[0.0], np.cumsum(steps)])
    low, high = np.searchsorted(np.cumsum(np.exp(log_masses)), [0.025, 0.975])
    return int(low), int(high)


def _counts(name: str, result: Mapping[str, Any]) -> Any:
    counts = np.asarray(result.get("pit_histogram", []) if isinstance(result, Mapping) else [])
    if counts.ndim != 1 or len(counts) < 2 or not counts.sum() > 0 or "quantile_calibration_error" not in result:
        raise ValueError(
            f"{name!r}: give what quantile_calibration_error returns, with a pit_histogram of two bins at least"
        )
    return counts
