"""The report: Markdown tables and a JSON file that records how it was made."""

import json
import math
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.evaluation.runs import DIVERGED, MARGIN, METHODS, Run, Settings
from benchmarks.targets.mixture import OPTIMA_1D
from benchmarks.targets.noisy import GSM_VARIANCES, bam_variance

PACKAGES = ("hf_scorevi", "torch", "numpy", "scipy", "scikit-learn", "matplotlib")
COLUMNS = {
    "negative_elbo": "−ELBO",
    "reverse_kl": "KL(q‖p)",
    "forward_kl": "KL(ref‖q)",
    "mean_error": "mean error",
    "sd_error": "sd error",
}
TEXT_COLUMNS = ("target", "method", "nearest optimum", "status", "message")
LEGEND = f"""\
Medians over the seeds that ended soundly. −ELBO and divergences in nats, measured afresh with the same samples for
all methods. `KL(ref‖q)`: from the Gaussian with the reference's mean and covariance; for reference draws that is the
cross-entropy −E log q minus a constant of the target. Mean and sd error: root mean square over coordinates, in the
reference's standard deviations. `to STL`: evaluations until the traced −ELBO was within {MARGIN:g} nats of STL-ADVI's
last one, and in how many of the seeds. ADVI's evaluations and seconds are those of its best learning rate alone:
finding it cost as many more as there were rates. `failed`: diverged (ended with a −ELBO more than {DIVERGED:g}
nat above its start's), not finite, or an exception; listed at the end. Seconds include the trace. In the figures a
line at the top edge, 100 times the start, is a run that diverged.
"""


def package_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def environment() -> dict[str, Any]:
    """Versions and hardware; nothing that names a machine or a person."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return {
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "cpu": cpu,
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "operating_system": platform.system(),
    }


def write_json(path: Path, runs: Iterable[Run], settings: Settings, seeds: int) -> None:
    content = {
        "settings": {**asdict(settings), "seeds": seeds, "methods": METHODS, "margin": MARGIN},
        "environment": environment(),
        "runs": [run.as_json() for run in runs],
    }
    path.write_text(json.dumps(content, allow_nan=False) + "\n")


def number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.2e}" if value != 0 and not 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    align = ["---" if name in TEXT_COLUMNS else "---:" for name in header]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, align, *rows]) + "\n"


def median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return statistics.median(known) if known else None


def summary_row(target: str, method: str, runs: Sequence[Run]) -> list[str]:
    sound = [run for run in runs if run.status == "ok"]
    row = [target, method, *(number(median(run.measures.get(key) for run in sound)) for key in COLUMNS)]
    rates = "/".join(dict.fromkeys(f"{run.learning_rate:g}" for run in sound if run.learning_rate is not None)) or "–"
    reached = [run.evaluations_to_stl for run in runs if run.evaluations_to_stl is not None]
    to_stl = f"{statistics.median(reached):.0f} ({len(reached)}/{len(runs)})" if reached else "–"
    evaluations = number(median(run.evaluations for run in sound))
    seconds = median(run.seconds for run in sound)
    failed = f"{len(runs) - len(sound)}/{len(runs)}"
    return [*row, rates, evaluations, to_stl, "–" if seconds is None else f"{seconds:.1f}", failed]


def group_table(runs: Sequence[Run]) -> str:
    header = ["target", "method", *COLUMNS.values(), "learning rate", "evaluations", "to STL", "seconds", "failed"]
    cells: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        cells.setdefault((run.target, run.method), []).append(run)
    return table(header, (summary_row(*key, found) for key, found in cells.items()))


def variance_table(runs: Sequence[Run]) -> str:
    """The variance that each method settles at on N(0, 1) when its score is noisy, mean over seeds."""
    methods = list(dict.fromkeys(run.method for run in runs))
    rows = []
    for name in dict.fromkeys(run.target for run in runs):
        noise, row = float(name.split("-")[1]), [name.split("-")[1]]
        for method in methods:
            found = [
                r.standard_deviation[0] ** 2 for r in runs if (r.target, r.method, r.status) == (name, method, "ok")
            ]
            row.append(f"{statistics.fmean(found):.3f}" if found else "–")
        rows.append([*row, f"{bam_variance(noise):.3f}", f"{GSM_VARIANCES[noise]:.3f}"])
    return table(["noise variance", *methods, "BaM, large batch (theory)", "GSM, batch 8 (simulated)"], rows)


def optima_table(runs: Sequence[Run]) -> str:
    """Where each run on the one-dimensional mixture ended, and the nearest known optimum."""
    rows = []
    for run in runs:
        if run.target == "mixture-1d" and run.status == "ok":
            mean, variance = run.mean[0], run.standard_deviation[0] ** 2
            name, where = min(OPTIMA_1D.items(), key=lambda item: math.dist((mean, variance), item[1]))
            distance = math.dist((mean, variance), where)
            rows.append([str(run.seed), run.method, f"{mean:.4f}", f"{variance:.4f}", name, f"{distance:.4f}"])
    return table(["seed", "method", "mean", "variance", "nearest optimum", "distance"], rows) if rows else ""


def stl_summary(runs: Sequence[Run]) -> str:
    """On how many targets score_vi needs no more evaluations than STL-ADVI for STL-ADVI's own last negative ELBO."""
    needed: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        if run.method in ("score_vi", "advi_stl"):
            count = math.inf if run.evaluations_to_stl is None else run.evaluations_to_stl
            needed.setdefault(run.target, {}).setdefault(run.method, []).append(count)
    pairs = {
        name: (statistics.median(found["score_vi"]), statistics.median(found["advi_stl"]))
        for name, found in needed.items()
        if len(found) == 2
    }
    if not pairs:
        return ""
    lost = [name for name, (own, other) in pairs.items() if own > other]
    ratios = [other / own for own, other in pairs.values() if 0 < own <= other < math.inf]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios
    failed = sum(run.method == "score_vi" and run.status != "ok" for run in runs)
    return (
        f"`score_vi` reached STL-ADVI's last −ELBO with no more evaluations than STL-ADVI itself on "
        f"{len(pairs) - len(lost)} of {len(pairs)} targets (medians over seeds; a seed that never did counts as "
        f"infinite){', not on ' + ', '.join(lost) if lost else ''}. Quartiles of how many times fewer, on the others: "
        f"{', '.join(number(value) for value in quartiles) or '–'}. Failed runs of `score_vi`: {failed}.\n"
    )


def markdown(runs: Sequence[Run], settings: Settings, seeds: int) -> str:
    """The whole report."""
    facts = environment()
    packages = ", ".join(f"{name} {found}" for name, found in facts["packages"].items() if found)
    batch = "each method's default" if settings.batch_size is None else settings.batch_size
    parts = [
        "# Synthetic targets\n",
        f"{seeds} seed(s), {settings.max_evaluations} evaluations of the score, family {settings.family}, "
        f"batch size {batch}, learning rates of ADVI {', '.join(f'{rate:g}' for rate in settings.learning_rates)}. "
        f"Python {facts['python']}, {packages}; {facts['cpu']}, {facts['torch_threads']} thread(s).\n",
        LEGEND,
    ]
    for group in dict.fromkeys(run.group for run in runs):
        members = [run for run in runs if run.group == group]
        parts += [f"## {group}\n", f"![{group}]({group}.png)\n", group_table(members)]
        if group == "noisy":
            parts += ["Variance found on N(0, 1), mean over seeds; the truth is 1.\n", variance_table(members)]
        if group == "mixture" and (found := optima_table(members)):
            parts += ["Where the runs on the one-dimensional mixture ended.\n", found]
    if summary := stl_summary(runs):
        parts += ["## ScoreVI against STL-ADVI\n", summary]
    failures = [run for run in runs if run.status != "ok"]
    parts.append("## Failures\n")
    rows = ([r.target, r.method, str(r.seed), r.status, " ".join(r.message.split())[:160]] for r in failures)
    parts.append(table(["target", "method", "seed", "status", "message"], rows) if failures else "None.\n")
    return "\n".join(parts)
