"""The time axis of a forecast's pictures: time stamps, numbers or steps."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def time_stamps(times: npt.ArrayLike | None, context: int, horizon: int) -> npt.NDArray[Any]:
    """Return time stamps or numbers [context + horizon] for an axis; for `None` steps, 0 at the last of the context.

    Time stamps with a zone become local time without one.

    Raises:
        ValueError: another number of them, neither dates nor numbers, or they do not increase.
    """
    if times is None:
        return np.arange(1 - context, horizon + 1)
    index: Any = times
    if getattr(index, "tz", None) is not None:
        index = index.tz_localize(None)
    array = np.asarray(index)
    if array.shape != (context + horizon,):
        raise ValueError(
            f"times must have the shape [{context + horizon}], {context} of the past and {horizon} of the forecast, "
            f"not {list(array.shape)}"
        )
    if array.dtype.kind in "OUS":
        try:
            array = array.astype("datetime64[ns]")
        except (TypeError, ValueError) as error:
            raise ValueError(f"times hold what is no time stamp: {error}") from error
    if array.dtype.kind not in "Mfiu":
        raise ValueError(f"times must be time stamps or numbers, not {array.dtype}")
    rising = array[1:] > array[:-1]
    if not rising.all():
        at = int(rising.argmin())
        raise ValueError(f"times must increase, but {array[at]} is followed by {array[at + 1]}")
    return array


def time_axis(axes: "Axes", stamps: npt.NDArray[Any], are_steps: bool) -> None:
    """Set few and short ticks for time stamps, whole ones for steps, and the label of the axis."""
    if stamps.dtype.kind == "M":
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(maxticks=9)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    elif are_steps:
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("steps after the last observation" if are_steps else "time")
