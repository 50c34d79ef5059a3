"""The report of the forecasting benchmark: tables with spreads, paired differences and times, and pictures."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.evaluation.forecasting_runs import MEMBERS, METHODS, NOISE_WINDOWS, NUM_SAMPLES
from benchmarks.evaluation.forecasting_scores import PIT_BINS
from benchmarks.evaluation.forecasting_tasks import MODELS
from benchmarks.evaluation.forecasting_training import STOPPING_SAMPLES
from benchmarks.evaluation.report import table
from hf_scorevi.plots import coverage_diagram
from hf_scorevi.posterior.temperature import FORECASTER_OBSERVATIONS

REFERENCES = ("adamw", "adamw_window")
PICTURED = ("adamw", "adamw_window", "ensemble", "score_vi")
METRICS = {
    "mse": "MSE",
    "mae": "MAE",
    "nll": "NLL",
    "crps": "CRPS",
    "coverage_error": "coverage error",
}
COVERAGES = {f"coverage_{level}": f"{level} %" for level in (50, 80, 90, 95)}
SOUND = (0.85, 0.95)  # of the 90 % intervals
HOW = f"""\
Networks are trained from random weights to the mean squared error of forecasts, series standardised by channel over
the training rows, at learning rate 1e-3, halved after each epoch, and batch 32, for at most ten epochs; three in a row
without a smaller validation error end it, and the best epoch counts; where there is a posterior the error is that of
the mean of {STOPPING_SAMPLES} draws' forecasts. A curvature step of ScoreVI counts as two gradient evaluations and
its epochs are cut so that it has no more evaluations to spend than AdamW; each of the {MEMBERS} members of an ensemble
has as many. MC-dropout is AdamW's network with the dropout it was trained with; it, ADVI, STL-ADVI and
ScoreVI predict by {NUM_SAMPLES} forward passes. ADVI and STL-ADVI learn the same family with the same prior as
ScoreVI; all three have the library's defaults, {FORECASTER_OBSERVATIONS} pseudo-observations a weight among them.

All predictives are mixtures of Gaussians with noise of the library's default form, proportional to the variance of the
window that a forecast is made from (for "{METHODS["adamw"]}" of one variance for all windows), fitted alike to the
residuals of the predictive's mean for up to {NOISE_WINDOWS:,} training windows, never to validation or test windows.

MSE and MAE of the predictive mean, in units of the standardised series, over all test windows, steps and channels. NLL
(nats per value) and CRPS, in closed form, of the mixture. Coverage: how many values lie in central intervals; its
error is the mean absolute difference over the four levels.
"""


def values(runs: Sequence[dict[str, Any]], metric: str) -> npt.NDArray[np.float64]:
    """A metric of all seeds."""
    return np.array([run["figures"][metric] for run in runs], dtype=np.float64)


def spread(found: npt.NDArray[np.float64]) -> str:
    deviation = f" ± {found.std(ddof=1):.4f}" if len(found) > 1 else ""
    return f"{found.mean():.4f}{deviation}"


def differences(
    rows: dict[str, list[dict[str, Any]]], method: str, reference: str, metric: str
) -> npt.NDArray[np.float64]:
    """A method minus the reference, seed by seed."""
    return values(rows[method], metric) - values(rows[reference], metric)


def difference(found: npt.NDArray[np.float64]) -> str:
    """Mean, standard error, and in how many seeds it was less."""
    error = f" ± {found.std(ddof=1) / math.sqrt(len(found)):.4f}" if len(found) > 1 else ""
    return f"{found.mean():+.4f}{error} ({(found < 0).sum()}/{len(found)})"


def what_holds(rows: dict[str, list[dict[str, Any]]], reference: str) -> str:
    """In words, whether ScoreVI is where it should be beside AdamW."""
    mse, nll, crps = (differences(rows, "score_vi", reference, metric) for metric in ("mse", "nll", "crps"))
    if len(mse) < 2:
        return ""
    error = mse.std(ddof=1) / math.sqrt(len(mse))
    covered = values(rows["score_vi"], "coverage_90")
    claims = {
        "MSE no worse within one standard error": mse.mean() <= error,
        "NLL better in every seed": bool((nll < 0).all()),
        "CRPS better in every seed": bool((crps < 0).all()),
        f"90 % intervals cover {SOUND[0]:.0%} to {SOUND[1]:.0%} in every seed": bool(
            ((covered >= SOUND[0]) & (covered <= SOUND[1])).all()
        ),
    }
    said = "; ".join(f"{claim}: {'yes' if true else 'no'}" for claim, true in claims.items())
    return f"ScoreVI against {METHODS[reference]}: {said}.\n"


def section(result: dict[str, Any]) -> list[str]:
    """One series, horizon and network."""
    rows: dict[str, list[dict[str, Any]]] = result["rows"]
    context, horizon = result["lengths"]
    scored = [[METHODS[m], *(spread(values(found, name)) for name in METRICS)] for m, found in rows.items()]
    covered = [[METHODS[m], *(f"{values(found, name).mean():.3f}" for name in COVERAGES)] for m, found in rows.items()]
    for row, found in zip(covered, rows.values(), strict=True):
        row.append(f"{values(found, 'epistemic').mean():.3f}")
    parts = [
        f"## {result['title']}, {MODELS[result['model']]}, {context} → {horizon}\n",
        f"{result['num_channels']} channels; {result['num_train']:,} training, {result['num_validation']:,} "
        f"validation and {result['num_test']:,} test windows; {result['num_weights']:,} weights.\n",
        "Mean ± standard deviation over seeds:\n",
        table(["method", *METRICS.values()], scored),
        "Coverage of central intervals; the share of the predictive's variance that lies between its components:\n",
        table(["method", *COVERAGES.values(), "between"], covered),
    ]
    for reference in (reference for reference in REFERENCES if reference in rows):
        others = [method for method in rows if method not in REFERENCES]
        if not others:
            continue
        paired = [
            [METHODS[m], *(difference(differences(rows, m, reference, name)) for name in METRICS)] for m in others
        ]
        parts += [
            f"Differences to {METHODS[reference]}, paired ± their standard error; in how many seeds it was less:\n",
            table(["method", *METRICS.values()], paired),
        ]
        if "score_vi" in rows:
            parts.append(what_holds(rows, reference))
    parts += ["What it took; times in multiples of the first line's:\n", times(rows)]
    parts += [f"![{path}]({path})\n" for path in result["pictures"]]
    return parts


def times(rows: dict[str, list[dict[str, Any]]]) -> str:
    def mean(runs: Sequence[dict[str, Any]], part: str) -> float:
        return float(np.mean([run["seconds"][part] for run in runs]))

    lines = []
    for method, found in rows.items():
        cells = [
            f"{np.mean([run['epochs'] for run in found]):.1f}",
            f"{np.mean([run['gradient_evaluations'] for run in found]):,.0f}",
        ]
        for part in ("training", "prediction"):
            own = mean(found, part)
            first = next(iter(rows))
            cells.append(f"{own:.1f} s" if method == first else f"{own / mean(rows[first], part):.2f}")
        lines.append([METHODS[method], *cells])
    return table(["method", "epochs", "gradient evaluations", "training", "prediction"], lines)


def markdown(content: dict[str, Any]) -> str:
    """The whole report."""
    facts = content["environment"]
    packages = ", ".join(f"{name} {found}" for name, found in facts["packages"].items() if found)
    seconds = sum(sum(run["seconds"].values()) for run in all_runs(content))
    parts = [
        "# Forecasting\n",
        f"{len(content['seeds'])} seed(s); {seconds / 60:.0f} minutes on {facts['cpu']}, {facts['torch_threads']} "
        f"thread; Python {facts['python']}, {packages}.\n",
        HOW,
    ]
    if content["quick"]:
        parts.append("**A made series and a tiny network: this says whether the program works, and nothing else.**\n")
    for result in content["results"]:
        parts += section(result)
    return "\n".join(parts)


def all_runs(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [run for result in content["results"] for runs in result["rows"].values() for run in runs]


def draw_coverage(name: str, title: str, rows: dict[str, list[dict[str, Any]]], examples: int, folder: Path) -> str:
    """Writes the coverage of some methods, all seeds pooled; the picture's name. `examples` are about independent."""
    curves = {}
    half = PIT_BINS // 2
    shown = [method for method in PICTURED if method in rows] or list(rows)
    for method, found in ((method, rows[method]) for method in shown):
        counts = np.sum([run["figures"]["pit"] for run in found], axis=0)
        inside = [counts[half - k : half + k].sum() / counts.sum() for k in range(1, half)]
        curves[METHODS[method]] = (np.arange(1, half) / half, np.array(inside), examples)
    path = f"coverage-{name}.png"
    coverage_diagram(curves, title=title).savefig(folder / path)
    return path
