"""The PIT histogram: whether what came is spread over the predictive as it should be."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_scorevi.plots._layers import shortened
from hf_scorevi.plots._style import COLORS, bare_frame, new_figure, outer_legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME_WIDTH = 40


def pit_histogram(results: Mapping[str, Mapping[str, Any]], title: str | None = None) -> "Figure":
    """Shares of the probability integral transform's values in each bin, relative to a uniform's, one panel a model.

    A calibrated forecast has bins on the dashed line. A histogram that is high at both ends says that the predictive
    is too narrow, one that is high in the middle that it is too wide, and a slope that it is shifted. The band has the
    95 % of each bin's count under a uniform distribution of independent values; forecasts that overlap depend on each
    other, so theirs scatter more. Above each panel stands the model's quantile calibration error.

    Args:
        results: name to what `hf_scorevi.metrics.quantile_calibration_error` returns, of at least two bins.
        title: a line above the picture.

    Returns:
        A `matplotlib.figure.Figure`, 700 pixels wide, tied to no window: `figure.savefig("pit.png")`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no model, or one whose result has no such histogram.

    Source: Czado, Gneiting and Held, "Predictive Model Assessment for Count Data", Biometrics 65 (2009); Gneiting,
        Balabdaoui and Raftery, "Probabilistic forecasts, calibration and sharpness", JRSS B 69 (2007), for its shapes.
    """
    if not results:
        raise ValueError("results is empty: give at least one entry, name -> quantile_calibration_error(…)")
    models = [(name, _counts(name, result), result["quantile_calibration_error"]) for name, result in results.items()]
    figure = new_figure(1.3 + (3.6 if len(models) == 1 else 1.9) * len(models), "pit_histogram")
    panels = figure.subplots(len(models), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    names = shortened(list(results), NAME_WIDTH, NAME_WIDTH)
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
        bare_frame(axes)
        axes.set_ylabel("relative frequency")
        axes.set_title(f"{name} (quantile calibration error {error:.3g})", loc="left", fontsize=10, parse_math=False)
    panels[-1].set(xlim=(0, 1), ylim=(0, None), xlabel="PIT: predictive probability of less than what came")
    outer_legend(figure, title, columns=3)
    return figure


def binomial_interval(count: int, probability: float) -> tuple[int, int]:
    """The 2.5 % and the 97.5 % quantile of the successes among `count` trials, for 0 < probability < 1."""
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
