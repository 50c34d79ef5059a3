"""Shared style of all plots: colours, a bare frame, and a legend that covers nothing."""

from typing import TYPE_CHECKING

from hf_scorevi.plots._layers import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with any common colour vision deficiency can tell apart; without its yellow,
# which is too pale for lines on white. The markers differ too, for prints in grey.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v")

LEGEND_WIDTH = 72  # characters of a legend of one column, so that it ends within the picture


def new_figure(height: float, asked_by: str) -> "Figure":
    """Return an empty figure, 700 pixels wide and `height` inches (of 100 pixels) high.

    Raises:
        ImportError: matplotlib is not installed; the message names `asked_by`.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(f'{asked_by} needs matplotlib: pip install "hf_scorevi[plots]"') from error
    return Figure(figsize=(7.0, height), dpi=100, layout="constrained")  # not pyplot: no global state, no display


def look(index: int) -> tuple[str, str]:
    """Return the colour and the marker of the `index`-th curve."""
    return COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]


def panel_title(axes: "Axes", text: str) -> None:
    """Write a line above one of several panels. A name in it is no formula."""
    axes.set_title(text, loc="left", fontsize=10, parse_math=False)


def finish(figure: "Figure", title: str | None, columns: int = 1) -> None:
    """Draw pale grids behind the data, no frames above and on the right, and a legend above the axes.

    The legend lies outside because curves may run through any corner of the axes.

    The title belongs to the legend, as the layout would draw a title of the figure across it. Names are no formulas,
    and those too long for one column are shortened.
    """
    for axes in figure.axes:
        axes.grid(color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    legend = figure.legend(
        loc="outside upper left",
        frameon=False,
        ncols=columns,
        fontsize=10 if columns == 1 else 9,
        handlelength=2.0 if columns == 1 else 1.6,
        columnspacing=1.4,
        title=title,
        title_fontproperties={"size": 12, "weight": "bold"},
        alignment="left",
    )
    texts = legend.get_texts()
    if columns == 1:
        short = shortened([text.get_text() for text in texts], LEGEND_WIDTH)
        for text, label in zip(texts, short, strict=True):
            text.set_text(label)
    for text in (*texts, legend.get_title()):
        text.set_parse_math(False)
