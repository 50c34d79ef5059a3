"""
Forecasting on the series of the Koopa paper: AdamW, MC-dropout, a deep ensemble, ADVI, STL-ADVI and ScoreVI.

    python benchmarks/forecasting.py --data-dir PATH                    # ETTh1, ILI, Exchange: hours on one core
    python benchmarks/forecasting.py --data-dir PATH --tasks etth2 --models koopa --methods adamw score_vi
    python benchmarks/forecasting.py --quick                            # a made series and a tiny network, seconds
    python benchmarks/forecasting.py --report a.json b.json             # one report of earlier results

Prints a report in Markdown, and writes it to report.md with pictures and, with all figures, results.json. A run that
the output folder has already is not made again, so that the whole can be made in parts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program: find `benchmarks` beside the library

from benchmarks.evaluation import forecasting_runs as runs
from benchmarks.evaluation.forecasting_report import draw_coverage, markdown
from benchmarks.evaluation.forecasting_scores import scores
from benchmarks.evaluation.forecasting_tasks import MADE, MODELS, TASKS, Data, Task, find_file, load, new_model
from benchmarks.evaluation.report import environment, package_version

RESULTS = Path("outputs/forecasting")
DEFAULT_TASKS = ("etth1", "ili", "exchange")
POINTS = ("adamw", "adamw_window", "mc_dropout", "ensemble")  # which share networks


def run_seed(
    methods: Sequence[str], model: str, task: Task, data: Data, seed: int, options: argparse.Namespace
) -> dict[str, runs.Outcome]:
    """Those methods; what the Trainer writes is thrown away."""
    folder = options.output_dir / "work"
    found: dict[str, runs.Outcome] = {}
    common: dict[str, Any] = {
        "name": model,
        "task": task,
        "data": data,
        "folder": folder,
        "seed": seed,
        "epochs": options.epochs,
    }
    if points := [method for method in methods if method in POINTS]:
        found |= runs.run_points(points, **common)
        shutil.rmtree(folder)
    for method in (method for method in methods if method not in POINTS):
        found[method] = runs.run_bayesian(method, **common)
        shutil.rmtree(folder)
    return found


def run_task(name: str, task: Task, model: str, horizon: int, options: argparse.Namespace) -> dict[str, Any]:
    """All seeds and methods of one series, horizon and network: what the report needs."""
    key = f"{name}-{horizon}-{model}"
    data = load(task, find_file(task, options.data_dir), horizon)
    rows: dict[str, list[dict[str, Any]]] = {method: [] for method in options.methods}
    targets = torch.stack([data.test[i]["future_values"] for i in range(len(data.test))])
    for seed in range(options.seeds):
        files = {m: options.output_dir / "runs" / f"{key}-{m}-{seed}.json" for m in options.methods}
        missing = [method for method, file in files.items() if not is_of(file, options)]
        # One method at a time, but for those that share networks, so that what is done is kept.
        shared = [method for method in missing if method in POINTS]
        for group in filter(None, [shared, *([method] for method in missing if method not in POINTS)]):
            say(f"{key}: seed {seed}, {', '.join(group)}")
            for method, found in run_seed(group, model, task, data, seed, options).items():
                record = {
                    "seed": seed,
                    "max_epochs": options.epochs,
                    "epochs": found.epochs,
                    "gradient_evaluations": found.gradient_evaluations,
                    "validation_mse": found.validation_mse,
                    "seconds": found.seconds,
                    "figures": scores(found.samples, found.variance, targets),
                }
                files[method].write_text(json.dumps(record, allow_nan=False) + "\n")
        for method, file in files.items():
            rows[method].append(json.loads(file.read_text()))
    title = task.title
    result = {
        "task": name,
        "title": title,
        "model": model,
        "lengths": data.lengths,
        "num_channels": len(data.channels),
        "num_train": len(data.train),
        "num_validation": len(data.validation),
        "num_test": len(data.test),
        "num_weights": sum(p.numel() for p in new_model(model, task, data).parameters()),
        "rows": rows,
    }
    apart = max(len(data.test) // horizon, 1) * len(data.channels) * options.seeds  # windows that do not overlap
    headline = f"{title}, {MODELS[model]}, horizon {horizon}; {options.seeds} seeds pooled"
    result["pictures"] = [draw_coverage(key, headline, rows, apart, options.output_dir)]
    return result


def is_of(file: Path, options: argparse.Namespace) -> bool:
    """Whether a run was made already, with as many epochs at most."""
    return file.is_file() and json.loads(file.read_text())["max_epochs"] == options.epochs


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-dir", type=Path, help="folder of the series: ETTh1.csv.gz, national_illness.csv.gz, …")
    add("--tasks", nargs="+", default=list(DEFAULT_TASKS), choices=list(TASKS), help="default: etth1 ili exchange")
    add("--models", nargs="+", default=list(MODELS), choices=list(MODELS), help="default: all")
    add("--methods", nargs="+", default=list(runs.METHODS), choices=list(runs.METHODS), help="default: all")
    add("--horizons", nargs="+", type=int, help="steps to forecast; default: each series' shortest, 48 (ILI: 24)")
    add("--seeds", type=int, default=3, help="runs of each method (default: 3)")
    add("--epochs", type=int, help="at most; default: 10, with --quick 2")
    add("--output-dir", type=Path, default=RESULTS, help=f"default: {RESULTS}; runs that it has are not made again")
    add("--quick", action="store_true", help="a made series and tiny networks: whether it works")
    add("--report", nargs="+", type=Path, metavar="RESULTS", help="no run: one report of these results.json")
    args = parser.parse_args(argv)
    if args.report:
        return args
    args.epochs = (2 if args.quick else 10) if args.epochs is None else args.epochs
    if args.seeds < 1 or args.epochs < 1:
        parser.error("--seeds and --epochs must be at least 1")
    if args.quick:
        return args
    if args.data_dir is None:
        parser.error("give --data-dir, or --quick for a made series")
    for name in args.tasks:
        if find_file(TASKS[name], args.data_dir) is None:
            parser.error(f"{args.data_dir} has no series {TASKS[name].title}, such as {TASKS[name].files[0]}")
        unknown = [horizon for horizon in args.horizons or () if horizon not in TASKS[name].koopa]
        if unknown:
            known = ", ".join(map(str, TASKS[name].koopa))
            parser.error(f"{TASKS[name].title} has no settings for the horizon {unknown[0]}; it has {known}")
    return args


def run_all(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for, as results.json has it."""
    tasks = {"made": MADE} if options.quick else {name: TASKS[name] for name in dict.fromkeys(options.tasks)}
    found = [
        run_task(name, task, model, horizon, options)
        for name, task in tasks.items()
        for model in dict.fromkeys(options.models)
        for horizon in (None if options.quick else options.horizons) or [task.shortest]
    ]
    facts = environment()
    facts["packages"] |= {name: package_version(name) for name in ("transformers", "accelerate")}
    return {
        "environment": facts,
        "seeds": list(range(options.seeds)),
        "epochs": options.epochs,
        "num_samples": runs.NUM_SAMPLES,
        "quick": options.quick,
        "results": found,
    }


def together(files: Sequence[Path]) -> dict[str, Any]:
    """Results of several calls of the program, which may be of different methods; all else is the first one's."""
    contents = [json.loads(file.read_text()) for file in files]
    return contents[0] | {"results": [result for content in contents for result in content["results"]]}


def main(argv: Sequence[str] | None = None) -> None:
    options = parse_arguments(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # the figures would depend on their number
    (options.output_dir / "runs").mkdir(parents=True, exist_ok=True)
    content = together(options.report) if options.report else run_all(options)
    (options.output_dir / "results.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    report = markdown(content)
    (options.output_dir / "report.md").write_text(report)
    print(report)


if __name__ == "__main__":
    main()
