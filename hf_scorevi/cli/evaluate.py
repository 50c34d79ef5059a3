"""`hf-scorevi evaluate`."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoints import add_checkpoint, add_data, add_draws, enough_memory, load, place
from .options import command, new_file, new_folder, positive

if TYPE_CHECKING:
    from ..evaluation import Measurement
    from ..hub import Evaluation

__all__ = ["add_evaluate"]


def add_evaluate(commands: Any) -> None:
    parser = command(
        commands,
        _evaluate,
        "evaluate",
        "REPO --dataset DATA",
        "measure a checkpoint's calibration",
        "Measure a classifier of images, texts or recordings: accuracy, NLL, calibration errors and Brier score, of "
        "its posterior predictive and of its mean weights alone; or two, side by side. Or a regression on texts, or a "
        "forecaster, by errors, NLL and CRPS. (Other models: hf_scorevi.evaluation.evaluate in Python.)",
    )
    add_checkpoint(parser)
    parser.add_argument("--compare", metavar="REPO", help="measure this one on the same data too, and the differences")
    data = add_data(parser, split="test")
    data.add_argument(
        "--stride", metavar="N", type=positive, default=1, help="of series: time steps from one window to the next"
    )
    add_draws(parser.add_argument_group("how to measure"))
    out = parser.add_argument_group("what becomes of the figures; they are printed in any case")
    out.add_argument("--json", metavar="FILE", type=new_file, help="write them there")
    out.add_argument("--plots", metavar="DIR", type=new_folder, help="draw them: PNG files in that folder")
    out.add_argument(
        "--update-card",
        action="store_true",
        help="put them into calibration.json and the card, in the folder or in one commit on the Hub",
    )
    out.add_argument("--create-pr", action="store_true", help="with --update-card: by a pull request on the Hub")


def _evaluate(options: argparse.Namespace) -> None:
    is_local = Path(options.name).is_dir()
    if options.create_pr and (is_local or not options.update_card):
        options.parser.error("--create-pr goes with --update-card, for a repository on the Hub")
    if options.compare and options.update_card:
        options.parser.error("--update-card is for one checkpoint: leave out --compare")

    from ..hub import (
        add_evaluation,
        fetch_checkpoint,
        push_figures,
        read_evaluations,
        read_recalibration,
        write_card,
        write_evaluations,
    )

    folder = fetch_checkpoint(options.name, **place(options))
    measured = {options.name: _measure(options, folder)}
    if options.compare:
        other = argparse.Namespace(**vars(options) | {"name": options.compare, "revision": None, "subfolder": ""})
        measured[_other_name(options)] = _measure(other, fetch_checkpoint(other.name, **place(other)))
    evaluation = measured[options.name].evaluation
    contents = evaluation.to_dict()
    print(*(_table(name if options.compare else None, own.evaluation) for name, own in measured.items()), sep="\n\n")
    if options.compare:
        differences = _differences(*measured.values())
        print(f"\n{_difference_table(list(measured), differences)}")
        contents = {
            "evaluations": {name: own.evaluation.to_dict() for name, own in measured.items()},
            "differences": differences,
        }
    if options.json is not None:
        options.json.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
    if options.plots is not None:
        _draw(options.plots, measured)
    if options.update_card and is_local:
        evaluations = add_evaluation(read_evaluations(folder), evaluation)
        write_evaluations(folder, evaluations, read_recalibration(folder))
        print(write_card(folder))
    elif options.update_card:
        commit = push_figures(folder, evaluation, options.name, create_pr=options.create_pr, **place(options))
        print(commit.pr_url or commit.commit_url)


def _other_name(options: argparse.Namespace) -> str:
    return options.compare if options.compare != options.name else f"{options.compare} again"


def _measure(options: argparse.Namespace, folder: Path) -> Measurement:
    from .. import evaluation

    loaded = load(options, folder)
    if loaded.model.task != "classes" and (options.compare or options.plots):
        raise ValueError(f"--compare and --plots are for classifiers; {options.name} predicts {loaded.model.task}.")
    with enough_memory():
        measured = evaluation.measure(
            loaded.model,
            loaded.data,
            processing_class=loaded.part,
            num_samples=options.num_samples,
            seed=options.seed,
            batch_size=options.batch_size,
            use_cpu=options.use_cpu,
        )
    for name, value in (loaded.described or {}).items():
        setattr(measured.evaluation, name, value)
    return measured


def _differences(first: Measurement, second: Measurement) -> dict[str, dict[str, float | None]]:
    """Compare by paired bootstrap."""
    import math

    import numpy as np

    from ..metrics import paired_bootstrap

    if not np.array_equal(first.labels, second.labels) or first.probabilities.shape != second.probabilities.shape:
        raise ValueError(
            "The two models number their classes differently, so they cannot be compared example by example. Give "
            "both the same id2label, in the same order."
        )
    found = paired_bootstrap(first.probabilities, second.probabilities, first.labels)
    return {
        metric: {name: value if math.isfinite(value) else None for name, value in own.items()}
        for metric, own in found.items()
    }


def _draw(folder: Path, measured: dict[str, Measurement]) -> None:
    from ..hub import write_aside
    from ..plots import accuracy_confidence_curve, metrics_by_draws, reliability_diagram, risk_coverage_diagram

    curves = {name: (own.probabilities, own.labels) for name, own in measured.items()}
    evaluations = {name: own.evaluation for name, own in measured.items()}
    bins = {
        f"{name}, {row}" if len(measured) > 1 else row: own
        for name, evaluation in evaluations.items()
        for row, own in evaluation.reliability.items()
        if len(measured) == 1 or row == "predictive"
    }
    pictures = {
        "reliability": reliability_diagram(bins),
        "confidence": accuracy_confidence_curve(curves),
        "risk_coverage": risk_coverage_diagram(curves),
        "draws": metrics_by_draws(
            {name: own.by_num_samples for name, own in evaluations.items()},
            mean={name: own.metrics["mean"] for name, own in evaluations.items()},
        ),
    }
    folder.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        write_aside(folder / f"{name}.png", partial(picture.savefig, format="png"))
        print(folder / f"{name}.png")


def _table(name: str | None, evaluation: Evaluation) -> str:
    """Format the figures as columns of text."""
    names = list(evaluation.metrics["predictive"])
    width = max(len(name) for name in names) + 2
    title = evaluation.title if name is None else f"{name} on {evaluation.title}"
    recalibrated = ", recalibrated" if evaluation.recalibrated else ""
    lines = [f"{title}: {evaluation.num_examples:,} examples, {evaluation.num_samples} draws{recalibrated}"]
    lines.append(" " * 12 + "".join(f"{name:>{width}}" for name in names))
    for row, figures in evaluation.metrics.items():
        shown = ["-" if name not in figures else f"{figures[name]:.4f}" for name in names]
        lines.append(f"{row:<12}" + "".join(f"{figure:>{width}}" for figure in shown))
    return "\n".join(lines)


def _difference_table(names: list[str], differences: dict[str, dict[str, float | None]]) -> str:
    from ..metrics import FIGURES

    lines = [f"{names[1]} less {names[0]}, predictive, with 95 % intervals of a paired bootstrap over the examples"]
    for metric, own in differences.items():
        low, high = own["low"], own["high"]
        told = "" if low is None or high is None or low <= 0 <= high else "  *"
        if told:
            told += " better" if (low > 0) == FIGURES[metric].greater_is_better else " worse"  # type: ignore[operator]
        shown = [f"{own[key]:+.4f}" if own[key] is not None else "not finite" for key in ("difference", "low", "high")]
        lines.append(f"{metric:<12}{shown[0]:>10}  [{shown[1]}, {shown[2]}]{told}")
    return "\n".join([*lines, f"* the interval leaves out zero: {names[1]} is better, or worse"])
