"""The direction of the metric that chooses the best model, ends a training early, or lowers the learning rate."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from transformers.utils import logging

from ..metrics import FIGURES, Figure, find_figure

if TYPE_CHECKING:
    from .arguments import ScoreVITrainingArguments

__all__ = ["direction_of", "settle_direction"]

logger = logging.get_logger(__name__)


def direction_of(metric: str) -> tuple[bool, bool]:
    """
    Return whether a greater `metric_for_best_model` is better, and whether that is only assumed: for a metric that the
    user computes, or one of several data sets, whose names nobody knows yet.

    Raises:
        ValueError: it is a figure of which neither more nor less is better.
    """
    if metric.endswith("loss"):
        return False, False
    figure = find_figure(metric)
    if figure is not None:
        return _known(metric, figure), False
    return _by_ending(metric) is not False, True


def settle_direction(args: ScoreVITrainingArguments, datasets: Collection[str]) -> None:
    """
    Make certain what was assumed of `args.metric_for_best_model`, now that the names of the evaluated `datasets` are
    known. A metric that the user computes is taken as transformers takes it, with a warning.

    Raises:
        ValueError: as `direction_of`; or the metric is called like one of ours and is none.
    """
    metric = args.metric_for_best_model
    if metric is None or not args.direction_is_assumed:
        return
    figure = find_figure(metric, datasets)
    if figure is not None:
        args.greater_is_better = _known(metric, figure)
    elif _by_ending(metric) is False:
        raise ValueError(
            f"metric_for_best_model={metric!r} is a metric of your own: say whether a greater one is better, with "
            "greater_is_better=True or greater_is_better=False."
        )
    elif _by_ending(metric) is None:
        logger.warning(
            f"metric_for_best_model={metric!r} is a metric of your own: a greater one is taken to be better, as "
            "transformers does. Say greater_is_better=False if it is not."
        )
    args.direction_is_assumed = False


def _known(metric: str, figure: Figure) -> bool:
    if figure.greater_is_better is None:
        raise ValueError(
            f"metric_for_best_model={metric!r} cannot choose a model: of the {figure.label}, neither more nor less is "
            "better. Choose by one that can, such as nll or loss; or say which way with greater_is_better."
        )
    return figure.greater_is_better


def _by_ending(metric: str) -> bool | None:
    """Return the direction of the figure with whose name the metric's ends, `None` if there is none."""
    figures = [figure for name, figure in FIGURES.items() if metric.endswith(f"_{name}")]
    return max(figures, key=lambda figure: len(figure.name)).greater_is_better if figures else None
