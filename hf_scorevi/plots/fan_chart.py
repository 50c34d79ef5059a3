"""The fan chart: a series, its forecast with central intervals, and the values observed later."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.inputs import as_array
from hf_scorevi.plots._layers import shortened
from hf_scorevi.plots._style import COLORS, finish, new_figure, panel_title
from hf_scorevi.plots._times import time_axis, time_stamps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hf_scorevi.predictive import ForecastOutput

MAX_PANELS = 8  # channels that are drawn where nobody chooses some
NAME_WIDTH = 70
_LEAST_PAST = 24
_ORANGE = COLORS[1]
_BLUE = tuple(int(COLORS[0][i : i + 2], 16) / 255 for i in (1, 3, 5))

Floats = npt.NDArray[Any]


def fan_chart(
    forecast: "ForecastOutput",
    past_values: npt.ArrayLike,
    future_values: npt.ArrayLike | None = None,
    *,
    window: int = 0,
    channels: Sequence[int | str] | None = None,
    names: Sequence[str] | None = None,
    times: npt.ArrayLike | None = None,
    past_steps: int | None = None,
    num_paths: int = 0,
    title: str | None = None,
) -> "Figure":
    """Draw a window's past and forecast, one panel a channel, in the units of the forecast.

    The central intervals of the predictive whose ends are among the forecast's quantile levels are shaded, narrower
    ones darker. The orange lines are the interval of the widest level under the uncertainty of the weights alone, a
    Gaussian of the epistemic variance around the mean: where they are near the edges of the fan, more data would
    narrow it; where they are close together, its width is noise.

    Args:
        forecast: of one window or several, with at least one pair of quantile levels such as 0.05 and 0.95.
        past_values: the input of the forecast, [windows, context, channels], or [context, channels] of the window
            that is drawn. Missing values (NaN) are gaps.
        future_values: the values observed later, [windows, horizon, channels] or [horizon, channels], if known.
        window: number of the window that is drawn.
        channels: numbers or names of channels, in the order of the panels; default: all, up to eight.
        names: names of all channels, best with their units: "load (MW)".
        times: time stamps or numbers [context + horizon] that increase; default: steps, 0 at the last observation.
        past_steps: number of past steps drawn, at least 1; default: two horizons, or 24 if that is more.
        num_paths: number of the forecast's sample paths that are drawn too.
        title: a line above the picture.

    Returns:
        A `matplotlib.figure.Figure`, 700 pixels wide, tied to no window: `figure.savefig("forecast.png")`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no pair of quantile levels, values of another shape than the forecast's, or no such window,
            channel, past step or number of paths.

    Source: Bank of England, Inflation Report, February 1996; Wallis, "Asymmetric density forecasts of inflation and
        the Bank of England's fan chart", National Institute Economic Review 167 (1999).
    """
    num_windows, horizon, num_channels = forecast.mean.shape
    if not 0 <= window < num_windows:
        raise ValueError(f"window is {window}, and the forecast has the windows 0 to {num_windows - 1}")
    past = _of_window("past_values", past_values, forecast, window)
    future = None if future_values is None else _of_window("future_values", future_values, forecast, window)
    if future is not None and len(future) != horizon:
        raise ValueError(f"future_values has {len(future)} steps and the forecast {horizon}: give as many")
    labels = [f"channel {i}" for i in range(num_channels)] if names is None else list(names)
    if len(labels) != num_channels:
        raise ValueError(f"names has {len(labels)} entries, and the forecast {num_channels} channels: name each")
    shown = range(min(num_channels, MAX_PANELS)) if channels is None else [_number(own, labels) for own in channels]
    if not shown:
        raise ValueError("channels is empty: give at least one, or None for all")
    available = 0 if forecast.paths is None else len(forecast.paths)
    if not 0 <= num_paths <= available:
        raise ValueError(f"num_paths is {num_paths}, and the forecast has {available} paths: ask for more of them")
    if past_steps is not None and past_steps < 1:
        raise ValueError(f"past_steps is {past_steps}, and must be at least 1")

    stamps = time_stamps(times, len(past), horizon)
    steps = min(len(past), past_steps or max(2 * horizon, _LEAST_PAST))
    past, stamps = past[-steps:], stamps[-steps - horizon :]
    fan = _fan(forecast, window, num_paths)
    each = 3.6 if len(shown) == 1 else 2.0 if len(shown) <= 4 else 1.5
    figure = new_figure(1.5 + each * len(shown), "fan_chart")
    panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    short = shortened(labels, NAME_WIDTH)
    for axes, channel in zip(panels, shown, strict=True):
        _draw(axes, fan, channel, stamps, past, future)
        axes.margins(x=0.01)
        panel_title(axes, short[channel])
        if axes is not panels[0]:  # one panel's labels are the legend
            for artist in (*axes.lines, *axes.collections):
                artist.set_label("_")
    time_axis(panels[-1], stamps, times is None)
    finish(figure, title, columns=3)
    return figure


class _Fan(NamedTuple):
    """One window's forecast: arrays (steps, channels), and paths (paths, steps, channels)."""

    middle: Floats
    middle_label: str
    intervals: list[tuple[float, Floats, Floats]]  # level and ends, the widest first
    weights: tuple[Floats, Floats] | None  # ends of the widest level's interval, of the weights' uncertainty alone
    paths: Floats


def _fan(forecast: "ForecastOutput", window: int, num_paths: int) -> _Fan:
    levels = [round(1 - 2 * low, 6) for low in sorted(forecast.quantile_levels) if low < 0.5]
    ends = {round(2 * high - 1, 6) for high in forecast.quantile_levels if high > 0.5}
    levels = [level for level in levels if level in ends]
    if not levels:
        raise ValueError(
            f"the forecast's quantile levels {list(forecast.quantile_levels)} are no central interval's ends: ask for "
            "pairs, such as quantile_levels=(0.05, 0.25, 0.5, 0.75, 0.95)"
        )
    mean = _array(forecast.mean[window])
    half = NormalDist().inv_cdf((1 + levels[0]) / 2) * np.sqrt(_array(forecast.epistemic_variance[window]))
    middle = [i for i, level in enumerate(forecast.quantile_levels) if abs(level - 0.5) < 1e-6]
    ends_of = ((level, *forecast.interval(level)) for level in levels)
    return _Fan(
        _array(forecast.quantiles[middle[0], window]) if middle else mean,
        "median" if middle else "mean",
        [(level, _array(lower[window]), _array(upper[window])) for level, lower, upper in ends_of],
        (mean - half, mean + half) if half.any() else None,
        _array(forecast.paths[:num_paths, window]) if forecast.paths is not None else np.empty((0, *mean.shape)),
    )


def _draw(
    axes: "Axes", fan: _Fan, channel: int, stamps: npt.NDArray[Any], past: Floats, future: Floats | None
) -> None:
    """Draw the panel of one channel."""
    steps = len(past)
    later = stamps[steps - 1 :]

    def from_last(values: Floats) -> Floats:
        """Begin with the last observation, which is known, so that even a single step is a fan."""
        return np.concatenate([past[-1:, channel], values[:, channel]])

    for i, (level, lower, upper) in enumerate(fan.intervals):
        strength = 0.16 + 0.4 * (i + 1) / len(fan.intervals)
        color = tuple(1 - strength * (1 - part) for part in _BLUE)  # opaque, as each covers the one before
        axes.fill_between(
            later, from_last(lower), from_last(upper), color=color, linewidth=0, label=f"{100 * level:g} % interval"
        )
    for i, path in enumerate(fan.paths):
        axes.plot(later, from_last(path), color="0.35", linewidth=0.6, alpha=0.7, label="_" if i else "sample paths")
    if fan.weights is not None:
        label = f"{100 * fan.intervals[0][0]:g} % from weights alone"
        for i, end in enumerate(fan.weights):
            axes.plot(later, from_last(end), color=_ORANGE, linewidth=1.0, label="_" if i else label)
    axes.plot(later, from_last(fan.middle), color=_BLUE, linewidth=1.8, label=fan.middle_label)
    axes.plot(stamps[:steps], past[:, channel], color="black", linewidth=1.2, label="past")
    if future is not None:
        axes.plot(later, from_last(future), color="black", linewidth=1.2, linestyle=(0, (3, 1.2)), label="what came")


def _of_window(name: str, values: npt.ArrayLike, forecast: "ForecastOutput", window: int) -> Floats:
    num_windows, _, num_channels = forecast.mean.shape
    array = as_array(values, name)
    if array.ndim == 3 and len(array) == num_windows:
        array = array[window]
    if array.ndim != 2 or array.shape[1] != num_channels or not len(array):
        raise ValueError(
            f"{name} must have the shape [{num_windows}, steps, {num_channels}] of the forecast's windows or [steps, "
            f"{num_channels}] of one of them, not {list(np.shape(array))}"
        )
    return array.astype(np.float64)


def _number(channel: int | str, names: Sequence[str]) -> int:
    if isinstance(channel, str) and channel in names:
        return names.index(channel)
    if not isinstance(channel, str) and 0 <= channel < len(names):
        return channel
    raise ValueError(f"there is no channel {channel!r}: there are {len(names)}, {', '.join(names[:20])}")


def _array(values: Any) -> Floats:
    return as_array(values, "forecast").astype(np.float64)
