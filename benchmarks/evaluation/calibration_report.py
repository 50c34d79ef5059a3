"""The report of the calibration benchmark: tables with spreads and paired differences, and pictures."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from benchmarks.evaluation.calibration_runs import ROWS, Outcome
from benchmarks.evaluation.calibration_tasks import Data
from benchmarks.evaluation.report import table
from hf_scorevi.plots import entropy_histogram, reliability_diagram

REFERENCE = "adamw_temperature"
PICTURED = ("adamw", REFERENCE, "predictive")
METRICS = {
    "accuracy": "accuracy",
    "nll": "NLL",
    "ece": "ECE",
    "brier": "Brier",
    "aurc": "AURC",
    "human_nll": "human NLL",
    "ood_auroc": "OOD AUROC",
    "ood_auroc_mi": "OOD AUROC, MI",
}
MORE_IS_BETTER = ("accuracy", "ood_auroc", "ood_auroc_mi")
LEVEL = 0.95
HOW = """\
Each network is pretrained once by telling how images are turned (by 0, 90, 180 or 270 degrees), on all training images
without their labels. Then each seed draws labelled images, as many of each class, and both methods fine-tune the same
start on them with the real `Trainer` and `ScoreVITrainer`: the library's defaults, no augmentation, the same number of
gradient evaluations (a curvature step of ScoreVI counts twice). Each method has the learning rate, of one grid, at
which its validation NLL after temperature scaling is lowest on seed 0. Temperatures are fitted run by run to the
validation images, which train nothing. Nothing was chosen on test images. The predictive averages {num_samples} draws
and costs as many forward passes.

ECE: top-label, 15 bins of equal width. AURC: area under the risk-coverage curve, the error among the most confident,
averaged over how many those are. Human NLL: against the shares of people who named each class. OOD AUROC: how well
entropy, or mutual information (MI), tells the other test set from the task's own; MI is compared with the reference's
entropy. NLLs in nats.
"""
PER_DRAW = """\
`BN per draw`: the same posterior and draws, but batch normalisation's statistics are gathered for each draw
(`batch_norm_per_draw`, which is not the default); otherwise all draws use the mean's.
"""


def values(runs: Sequence[dict[str, Any]], metric: str) -> npt.NDArray[np.float64] | None:
    """A metric of all seeds, None where the row has none."""
    found = [run["figures"].get(metric) for run in runs]
    return None if None in found else np.array(found, dtype=np.float64)


def spread(found: npt.NDArray[np.float64]) -> str:
    return f"{found.mean():.3f} ± {found.std(ddof=1):.3f}"


def standard_error(found: npt.NDArray[np.float64]) -> float:
    return float(found.std(ddof=1) / math.sqrt(len(found)))


def differences(rows: dict[str, list[dict[str, Any]]], row: str, metric: str) -> npt.NDArray[np.float64] | None:
    """A row minus the reference, seed by seed; mutual information is compared with the reference's entropy."""
    own = values(rows[row], metric)
    other = values(rows[REFERENCE], "ood_auroc" if metric == "ood_auroc_mi" else metric)
    return None if own is None or other is None else own - other


def verdict(found: npt.NDArray[np.float64], metric: str) -> str:
    """Whether differences of seeds are `better`, `worse`, or `undecided` by Student's t at LEVEL, two-sided."""
    bound = student.ppf((1 + LEVEL) / 2, len(found) - 1) * standard_error(found)
    if abs(found.mean()) <= bound:
        return "undecided"
    return "better" if (found.mean() > 0) == (metric in MORE_IS_BETTER) else "worse"


def task_report(result: dict[str, Any]) -> list[str]:
    """The section of one task."""
    rows, settings = result["rows"], result["settings"]
    shown = [m for m in METRICS if any(values(found, m) is not None for found in rows.values())]
    lines, paired = [], []
    for row, found in rows.items():
        columns = [values(found, metric) for metric in shown]
        temperatures = np.array([run["temperature"] for run in found])
        scaled = spread(temperatures) if row.endswith("_temperature") else "1"
        lines.append([ROWS[row], *("–" if c is None else spread(c) for c in columns), scaled])
        if row == REFERENCE:
            continue
        cells = []
        for metric in shown:
            delta = differences(rows, row, metric)
            mark = "" if delta is None else {"better": " ✓", "worse": " ✗", "undecided": ""}[verdict(delta, metric)]
            cells.append("–" if delta is None else f"{delta.mean():+.3f} ± {standard_error(delta):.3f}{mark}")
        paired.append([ROWS[row], *cells])
    seconds = [
        [ROWS[row], *(mean_seconds(found, part) for part in ("training", "prediction"))]
        for row, found in rows.items()
        if not row.endswith("_temperature")
    ]
    tried = result["validation_nll_by_learning_rate"]
    rates = [
        [title, *(f"{nll:.3f}" for nll in tried[method].values()), f"{result['learning_rates'][method]:g}"]
        for method, title in (("adamw", "AdamW"), ("score_vi", "ScoreVI, predictive"))
    ]
    others = f" and {result['num_others']:,} from another distribution" if result["num_others"] else ""
    human = result["human_entropy"]
    fresh = result["seconds"]["pretraining"]
    pretraining = f"{fresh:.0f} s" if fresh > 1 else "by an earlier run"
    parts = [
        f"## {result['title']}\n",
        f"{result['num_weights']:,} weights; {settings['pretraining_steps']:,} steps of pretraining on "
        f"{result['num_pool']:,} images ({pretraining}); {settings['num_train']:,} labelled images and "
        f"{settings['num_validation']} for validation; {settings['gradient_evaluations']} gradient evaluations at "
        f"batch {settings['batch_size']}; {result['num_test']:,} test images{others}.\n",
        "Validation NLL after temperature scaling at each learning rate, seed 0:\n",
        table(["method", *(f"{rate:g}" for rate in settings["learning_rates"]), "chosen"], rates),
        "Mean ± standard deviation over seeds:\n",
        table(["method", *(METRICS[m] for m in shown), "temperature"], lines),
    ]
    if human is not None:
        parts.append(f"No prediction has a human NLL below the entropy of those labels, {human:.3f}.\n")
    parts += [
        f"Paired differences to {ROWS[REFERENCE]} ± their standard error; ✓ better, ✗ worse, at the {LEVEL:.0%} level "
        "of Student's t, which says nothing of chance among so many figures:\n",
        table(["method", *(METRICS[m] for m in shown)], paired),
        summary(rows, shown),
        "Seconds of a run, and of predicting validation, test and other images:\n",
        table(["method", "training [s]", "prediction [s]"], seconds),
        *(f"![{path}]({path})\n" for path in result["pictures"]),
    ]
    return parts


def mean_seconds(found: Sequence[dict[str, Any]], part: str) -> str:
    return f"{np.mean([run['seconds'][part] for run in found]):.1f}"


def summary(rows: dict[str, list[dict[str, Any]]], shown: Sequence[str]) -> str:
    """In words, what the predictives are better and worse in."""
    lines = []
    for row in (row for row in rows if row.startswith(("predictive", "per_draw"))):
        sorts: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
        for metric in shown:
            delta = differences(rows, row, metric)
            if delta is not None:
                sorts[verdict(delta, metric)].append(METRICS[metric])
        said = "; ".join(f"{sort}: {', '.join(names) or 'nothing'}" for sort, names in sorts.items())
        lines.append(f"- {ROWS[row]}: {said}.\n")
    return "".join(lines)


def markdown(content: dict[str, Any]) -> str:
    """The whole report."""
    facts = content["environment"]
    packages = ", ".join(f"{name} {found}" for name, found in facts["packages"].items() if found)
    rows = {row for result in content["tasks"].values() for row in result["rows"]}
    parts = [
        "# Calibration with few labels\n",
        f"{len(content['seeds'])} seeds; {content['seconds'] / 60:.0f} minutes on {facts['cpu']}, "
        f"{facts['torch_threads']} thread; Python {facts['python']}, {packages}.\n",
        HOW.format(num_samples=content["num_samples"]),
    ]
    if "per_draw" in rows:
        parts.append(PER_DRAW)
    for result in content["tasks"].values():
        parts += task_report(result)
    return "\n".join(parts)


def draw(name: str, title: str, outcomes: Sequence[dict[str, Outcome]], data: Data, folder: Path) -> list[str]:
    """Writes the pictures of a task, all seeds pooled; their names."""
    pooled = f"{title}, {len(outcomes)} seeds pooled"
    labels = np.tile(data.test_labels, len(outcomes))

    def gathered(row: str, part: str, what: str) -> npt.NDArray[np.float64]:
        return np.concatenate([getattr(found[row].predicted[part], what).double().numpy() for found in outcomes])

    curves = {ROWS[row]: (np.exp(gathered(row, "test", "log_probs")), labels) for row in PICTURED}
    names = [f"reliability-{name}.png"]
    reliability_diagram(curves, title=pooled).savefig(folder / names[0])
    if data.others is not None:
        scores = {ROWS[r]: (gathered(r, "test", "entropy"), gathered(r, "others", "entropy")) for r in PICTURED}
        names.append(f"entropy-{name}.png")
        entropy_histogram(scores, title=pooled).savefig(folder / names[1])
    return names
