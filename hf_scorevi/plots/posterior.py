"""The posterior diagram: how well the data determine each tensor of a model."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from hf_scorevi.plots._layers import Run, plain, runs, shortened
from hf_scorevi.plots._style import COLORS, finish, new_figure
from hf_scorevi.plots.kinds import KINDS, tensor_kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NAMED = 40  # tensors, of which each has a line of its own
LARGEST = 100.0  # σ over weights; beyond it weights are as good as zero, and lie on the edge of the picture

_BLUE, _VERMILION, _GREEN, _PURPLE, _ORANGE, _SKY, _BLACK = COLORS
# Colour, marker, and whether it is filled.
_LOOKS: dict[str, tuple[str, str, bool]] = {
    "embedding": (_ORANGE, "v", True),
    "attention": (_BLUE, "o", True),
    "feed-forward": (_VERMILION, "s", True),
    "convolution": (_GREEN, "^", True),
    "normalisation": (_PURPLE, "D", True),
    "bias": ("0.45", "o", False),
    "head": (_BLACK, "*", True),
    "LoRA A": (_SKY, "<", True),
    "LoRA B": (_BLUE, ">", False),
    "other adapter": (_SKY, "P", True),
    "other": ("0.45", "X", True),
}
# In square points, 45 for others: of one size to the eye; and the many biases, of few weights, smaller.
_SIZES = {"head": 110.0, "normalisation": 34.0, "attention": 42.0, "feed-forward": 40.0, "bias": 15.0}
_GREY = "0.35"
_AXIS_LABEL = "σ relative to the weights (root mean square)\n← determined by the data          not determined →"


class _Tensor(NamedTuple):
    position: int
    name: str
    value: float
    size: int
    kind: str


def posterior_diagram(figures: Sequence[tuple[str, float | None, int]], title: str | None = None) -> "Figure":
    """Draw σ of each tensor's weights relative to the weights, on a logarithmic axis, by the kind of tensor.

    Left of (below) the dashed line σ is smaller than the weights: the data determine them, the better the further. On
    it and beyond, not even their signs are certain. Up to 40 tensors have a line each, with their names and numbers of
    weights; more are drawn in the model's order, with the numbers of their layers.

    A ratio above 100, weights that are nearly zero, lies on the edge of the picture. Tensors without a ratio, which
    are zero, and those without σ are left out. A note below the picture counts both.

    Args:
        figures: name, root-mean-square σ over root-mean-square weight (None, NaN or infinity where the weights are
            zero), and number of weights of each tensor, in the model's order.
        title: a line above the picture.

    Returns:
        A `matplotlib.figure.Figure`, 700 pixels wide, tied to no window: `figure.savefig("posterior.png")`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: a negative ratio, a number of weights below 1, or no tensor with a positive ratio.
    """
    tensors, notes = _tensors(figures)
    named = len(tensors) <= MAX_NAMED
    figure = new_figure(1.9 + 0.18 * len(tensors) if named else 5.2, "posterior_diagram")
    axes = figure.subplots()
    one = axes.axvline if named else axes.axhline
    one(1.0, color="0.45", linestyle="--", linewidth=1.2, label="σ as large as the weights", zorder=1)
    for kind in KINDS:
        members = [t for t in tensors if t.kind == kind]
        if members:
            positions = [float(t.position) for t in members]
            values = [min(t.value, LARGEST) for t in members]
            color, marker, filled = _LOOKS[kind]
            x, y = (values, positions) if named else (positions, values)
            axes.scatter(
                x,
                y,
                s=_SIZES.get(kind, 45.0),
                marker=marker,
                facecolors=color if filled else "white",
                edgecolors="white" if filled else color,
                linewidths=0.5 if filled else 1.1,
                label=kind if named else f"{kind} ({_in_short(sum(t.size for t in members))})",
                zorder=3,
                clip_on=False,
            )
    _scale(axes, [min(t.value, LARGEST) for t in tensors], named)
    if notes:
        figure.supxlabel("; ".join(notes), fontsize=8.5, color=_GREY, x=0.01, ha="left")
    finish(figure, title, columns=4 if named else 3)
    if named:
        _name_lines(axes, tensors)
    else:
        _number_layers(figure, axes, [name for name, _, _ in figures])
    return figure


def _tensors(figures: Sequence[tuple[str, float | None, int]]) -> tuple[list[_Tensor], list[str]]:
    """Return the tensors that can be drawn, and notes about the others."""
    tensors, zero, certain = [], 0, 0
    for position, (name, value, size) in enumerate(figures):
        if size < 1 or (value is not None and value < 0):
            raise ValueError(
                f"{name}: σ relative to the weights is {value}, of {size} weights; neither may be negative"
            )
        if value is None or not math.isfinite(value):
            zero += 1
        elif value == 0:
            certain += 1
        else:
            tensors.append(_Tensor(position, name, value, size, tensor_kind(name)))
    if not tensors:
        raise ValueError("figures has no tensor with a σ relative to its weights: there is nothing to draw")
    if len(tensors) <= MAX_NAMED:  # one line after the other, without gaps
        tensors = [tensor._replace(position=line) for line, tensor in enumerate(tensors)]
    beyond = sum(tensor.value > LARGEST for tensor in tensors)
    notes = [
        (beyond, f"of weights near zero drawn at the edge (σ over {LARGEST:g} times as large)"),
        (zero, "of zero weights not shown"),
        (certain, "of σ = 0 not shown"),
    ]
    return tensors, [f"{count} tensor{'s' * (count > 1)} {what}" for count, what in notes if count]


def _scale(axes: "Axes", values: Sequence[float], named: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    lowest, highest = min(*values, 1.0), max(*values, 1.0)
    lowest = min(lowest, highest / 10)
    lowest, highest = lowest / 1.4, highest * 1.4
    steps = (1.0, 2.0, 5.0) if highest / lowest < 200 else (1.0,)
    if named:
        axes.set(xscale="log", xlim=(lowest, highest), xlabel=_AXIS_LABEL)
    else:
        axes.set(yscale="log", ylim=(lowest, highest), ylabel=_AXIS_LABEL)
    axis = axes.xaxis if named else axes.yaxis
    axis.label.set_fontsize(9.5)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _name_lines(axes: "Axes", tensors: Sequence[_Tensor]) -> None:
    """Write the tensors' names on the left and their numbers of weights on the right, from the top."""
    names = shortened([plain(tensor.name) for tensor in tensors], limit=44, longest=56)
    axes.set_yticks(range(len(tensors)), names, fontsize=8.5, parse_math=False)
    axes.set_ylim(len(tensors) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", visible=True)
    sizes = [f"{tensor.size:,}" for tensor in tensors]
    right = 8 + 5 * max(len(text) for text in ["weights", *sizes])  # in points
    for line, text in enumerate(sizes):
        _beside(axes, text, (1, line), "center", (right, 0))
    _beside(axes, "weights", (1, -0.6), "bottom", (right, 2))


def _beside(axes: "Axes", text: str, at: tuple[float, float], vertical: str, offset: tuple[float, float]) -> None:
    """
    Write right-aligned text beside the axes. `at`: the place as a fraction of their width, and in lines; then an
    offset in points.
    """
    axes.annotate(
        text,
        at,
        xycoords=axes.get_yaxis_transform(),
        xytext=offset,
        textcoords="offset points",
        fontsize=8,
        color=_GREY,
        ha="right",
        va=vertical,
    )


def _number_layers(figure: "Figure", axes: "Axes", names: Sequence[str]) -> None:
    """Draw stripes and numbers for blocks, and below them the names of blocks and of the tensors outside them."""
    blocks = runs(names)
    axes.set_xlim(-1.5, len(names) + 0.5)
    axes.grid(axis="x", visible=False)
    for block in blocks[1::2]:
        axes.axvspan(block.start - 0.5, block.stop - 0.5, color="0.955", linewidth=0, zorder=0)
    figure.draw_without_rendering()  # lays out, so that there is a width to measure
    pixels = axes.get_window_extent().width / (len(names) + 2)  # for each tensor
    ticks = [block for block in blocks if block.number]
    room = min(((block.stop - block.start) * pixels for block in ticks), default=1.0)
    every = math.ceil(max((6.5 * len(block.number) + 5 for block in ticks), default=1.0) / room)
    ticks = [block for block in ticks if int(block.number) % every == 0]
    axes.set_xticks([_middle(block) for block in ticks], [block.number for block in ticks], fontsize=8)
    axes.tick_params(axis="x", length=0)
    _name_stems(axes, blocks, -22 if ticks else -10)
    axes.set_xlabel(
        "tensors in the order of the model, by layer" if ticks else "tensors in the order of the model", fontsize=9.5
    )


def _name_stems(axes: "Axes", blocks: Sequence[Run], height: float) -> None:
    """
    Write a name below each run of blocks with one stem, where it does not cover the name of a longer or later run.
    """
    stems: list[Run] = []
    for block in blocks:
        if stems and stems[-1].stem == block.stem:
            stems[-1] = stems[-1]._replace(stop=block.stop)
        else:
            stems.append(block)
    frame = axes.get_window_extent()
    taken: list[tuple[float, float]] = []
    for run in sorted(stems, key=lambda run: (run.start - run.stop, -run.start)):
        text = axes.annotate(
            run.stem,
            (_middle(run), 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, height),
            textcoords="offset points",
            fontsize=8,
            color=_GREY,
            ha="center",
            va="center",
            parse_math=False,
        )
        box = text.get_window_extent()
        shift = max(frame.x0 - box.x0, 0.0) + min(frame.x1 - box.x1, 0.0)  # into the frame
        left, right = box.x0 + shift, box.x1 + shift
        if any(left < other_right + 8 and other_left < right + 8 for other_left, other_right in taken):
            text.remove()
            continue
        text.xyann = (shift * 72 / axes.figure.dpi, height)
        taken.append((left, right))
    axes.xaxis.labelpad = 18


def _middle(run: Run) -> float:
    return (run.start + run.stop - 1) / 2


def _in_short(number: int) -> str:
    """Abbreviate a number: 1234567 -> "1.2 M weights"."""
    value, unit = float(number), ""
    for larger in (" k", " M", " G"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g}{unit} weight{'s' * (number != 1)}"
