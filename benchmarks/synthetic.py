"""
Compare score-matching variational inference with ADVI, GSM and BaM on targets whose answer is known.

    python benchmarks/synthetic.py --data-dir PATH/posteriordb --output-dir outputs/synthetic
    python benchmarks/synthetic.py --quick                               # about a minute, a few targets
    python benchmarks/synthetic.py --targets mixture noisy-1 --methods score_vi bam --seeds 5
    python benchmarks/synthetic.py --report a/results.json b/results.json    # one report of earlier runs

Writes report.md, one figure a group of targets, and results.json with every run's trace, settings, versions and
hardware. Without --data-dir the reference posteriors (posteriordb) are left out.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program: find `benchmarks` beside the library

from benchmarks.evaluation.figures import group_figure
from benchmarks.evaluation.report import markdown, write_json
from benchmarks.evaluation.runs import METHODS, Run, Settings, compare_with_stl, run_method
from benchmarks.targets import Target, groups

QUICK_TARGETS = (
    "gaussian-4",
    "gaussian-16-cond1000",
    "sinh_arcsinh-s1-t1",
    "mixture-1d",
    "noisy-1",
    "logistic-minibatch",
    "eight_schools-eight_schools_noncentered",
)
QUICK_SETTINGS = Settings(max_evaluations=2000, learning_rates=(0.02, 0.1))


def targets(data_dir: Path | None, seed: int = 0) -> dict[str, Callable[[], Target]]:
    """All targets by name, each a function that builds it."""
    return {name: build for members in groups(data_dir, seed).values() for name, build in members.items()}


@cache
def quiet_target(name: str, data_dir: Path | None) -> Target:
    """Built once a process; a noisy target, whose noise has a state, is built for each run instead."""
    return targets(data_dir)[name]()


def run_task(task: tuple[str, str, int], data_dir: Path | None, settings: Settings) -> Run:
    """(target, method, seed) to its run."""
    name, method, seed = task
    torch.set_num_threads(1)  # matrices this small gain nothing from more
    target = quiet_target(name, data_dir)
    return run_method(targets(data_dir, seed)[name] if target.noisy else lambda: target, method, seed, settings)


def choose_targets(wanted: Sequence[str], data_dir: Path | None) -> list[str]:
    """Names of targets from groups, names and patterns ("gaussian-*"), in the report's order; all if none is given.

    Raises:
        SystemExit: an entry fits no target.
    """
    by_group = groups(data_dir)
    known = [name for members in by_group.values() for name in members]
    chosen: set[str] = set()
    for entry in wanted:
        found = by_group.get(entry) or fnmatch.filter(known, entry)
        if not found:
            hint = "" if data_dir else " (posteriordb's need --data-dir)"
            raise SystemExit(f"--targets {entry!r} fits no target{hint}; there are {', '.join([*by_group, *known])}")
        chosen.update(found)
    return [name for name in known if name in chosen or not wanted]


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="folder of posteriordb, one folder for each posterior")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/synthetic"))
    parser.add_argument("--targets", nargs="+", default=[], help="groups, names or patterns (default: all)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", type=int, help="number of seeds, from 0 (default 3; 1 with --quick)")
    parser.add_argument("--max-evaluations", type=int, help="budget of one fit (default 20000; 2000 with --quick)")
    parser.add_argument("--batch-size", type=int, help="samples for each update (default: each method's own)")
    parser.add_argument("--family", default="full")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes, one thread each")
    parser.add_argument(
        "--report", type=Path, nargs="+", help="results.json of earlier runs: run nothing, report them"
    )
    parser.add_argument("--quick", action="store_true", help="few targets, small budget, two learning rates of ADVI")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)
    if args.report:
        report_earlier(args.report, args.output_dir)
        return
    settings = QUICK_SETTINGS if args.quick else Settings()
    settings = replace(settings, batch_size=args.batch_size, family=args.family)
    names = choose_targets(args.targets, args.data_dir)
    if args.quick and not args.targets:
        names = [name for name in names if name in QUICK_TARGETS]
    if args.max_evaluations is not None:
        settings = replace(settings, max_evaluations=args.max_evaluations)
    seeds = args.seeds if args.seeds is not None else (1 if args.quick else 3)
    torch.set_num_threads(1)
    args.output_dir.mkdir(parents=True, exist_ok=True)

    tasks = [(name, method, seed) for name in names for method in args.methods for seed in range(seeds)]
    work = partial(run_task, data_dir=args.data_dir, settings=settings)
    runs: list[Run] = []
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        for run in pool.map(work, tasks) if args.jobs > 1 else map(work, tasks):
            runs.append(run)
            print(f"[{len(runs)}/{len(tasks)}] {run.target} {run.method} seed {run.seed}: {run.status}, "
                  f"−ELBO {run.loss:.4g}, {run.evaluations} evaluations, {run.seconds:.1f} s", flush=True)  # fmt: skip
            if len(runs) % (len(args.methods) * seeds) == 0:  # an interruption loses one target
                write_json(args.output_dir / "results.json", runs, settings, seeds)
    report(runs, settings, seeds, args.output_dir)


def report(runs: list[Run], settings: Settings, seeds: int, folder: Path) -> None:
    """Write results.json, report.md and the figures."""
    compare_with_stl(runs)
    write_json(folder / "results.json", runs, settings, seeds)
    (folder / "report.md").write_text(markdown(runs, settings, seeds))
    for group in dict.fromkeys(run.group for run in runs):
        figure = group_figure(group, [run for run in runs if run.group == group])
        figure.savefig(folder / f"{group}.png")
    print(f"report in {folder / 'report.md'}")


def report_earlier(files: Sequence[Path], folder: Path) -> None:
    """
    One report of the runs in several results.json, which must share their settings. Of a run that stands in more than
    one of them the last counts.

    Raises:
        SystemExit: the settings differ.
    """
    contents = [json.loads(path.read_text()) for path in files]
    settings = {key: value for key, value in contents[0]["settings"].items() if key not in ("methods", "margin")}
    for path, content in zip(files, contents, strict=True):
        if any(content["settings"][key] != value for key, value in settings.items()):
            raise SystemExit(f"{path} was made with other settings than {files[0]}: {content['settings']}")
    found = [run for content in contents for run in content["runs"]]
    runs = {(run["target"], run["method"], run["seed"]): Run.from_json(run) for run in found}
    seeds = settings.pop("seeds")
    folder.mkdir(parents=True, exist_ok=True)
    report(list(runs.values()), Settings(**settings), seeds, folder)


if __name__ == "__main__":
    main()
