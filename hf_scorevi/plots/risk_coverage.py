"""The risk-coverage diagram: how many errors are avoided by not answering where confidence is low."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics import RiskCoverage, risk_coverage_curve, wilson_interval
from hf_scorevi.plots._curves import named_errors, rate_line, require_entries
from hf_scorevi.plots._style import finish, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = tuple[npt.ArrayLike, npt.ArrayLike] | tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike] | RiskCoverage
_STEADY = 0.1  # coverage from which on lines have to be in the picture


def risk_coverage_diagram(curves: Mapping[str, Curve], title: str | None = None) -> "Figure":
    """Draw the share of wrong predictions among the most confident examples against the share that these are of all.

    A model that knows what it does not know has a low line that rises at its right end, where it is forced to answer.
    The band is the 95 % Wilson interval at each coverage. The legend has the area under each line (AURC), the mean of
    the risk over all coverages.

    Args:
        curves: name to (probabilities [examples, classes], labels [examples]) or (probabilities, labels, scores
            [examples]), as `hf_scorevi.metrics.risk_coverage_curve` takes them, or to its result.
        title: a line above the picture.

    Returns:
        A `matplotlib.figure.Figure`, 700 pixels wide, tied to no window: `figure.savefig("risk_coverage.png")`.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no curve, or one whose inputs `hf_scorevi.metrics.risk_coverage_curve` refuses.

    Source: Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017 (arXiv 1705.08500);
        AURC Geifman, Uziel and El-Yaniv, ICLR 2019 (arXiv 1805.08206).
    """
    figure = new_figure(5.0, "risk_coverage_diagram")
    require_entries("curves", curves, "(probabilities, labels)")
    axes = figure.subplots()
    ceiling = 0.0
    for index, (name, given) in enumerate(curves.items()):
        curve = _curve(name, given)
        counts = np.arange(1, len(curve.risk) + 1)
        rate_line(axes, index, curve.coverage, curve.risk, counts, f"{name} (AURC {curve.risk.mean():.4f})")
        at_end = wilson_interval(curve.risk[-1:], counts[-1:])[1][0]
        ceiling = max(ceiling, curve.risk[curve.coverage >= _STEADY].max(), at_end)
    axes.set(
        xlim=(0, 1),
        # Of the few most confident examples every other may be wrong: there, lines and bands may leave the picture.
        ylim=(-0.03 * ceiling, 1.08 * ceiling),
        xlabel="coverage: share of examples answered, the most confident first",
        ylabel="risk: share of wrong answers",
    )
    finish(figure, title)
    return figure


def _curve(name: str, curve: Curve) -> RiskCoverage:
    if isinstance(curve, RiskCoverage):
        return curve
    with named_errors(name):
        if not isinstance(curve, Sequence) or len(curve) not in (2, 3):
            raise ValueError("give (probabilities, labels), (probabilities, labels, scores) or RiskCoverage")
        return risk_coverage_curve(*curve)
