"""
What training costs at full size: seconds of a step and memory, beside AdamW's, for models with random weights.

    python benchmarks/cost.py                                      # everything; on a CPU an hour and more
    python benchmarks/cost.py --models vit_b16 --device cuda --bf16
    python benchmarks/cost.py --quick                              # tiny models: whether it works

Prints a report in Markdown and writes all figures as JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program: find `benchmarks` beside the library

from benchmarks.evaluation import cost_subjects
from benchmarks.evaluation.cost_meters import AllocatorMeter, Run, Step, Stopwatch, StorageMeter, take_turns
from benchmarks.evaluation.cost_subjects import INTERVAL, METHODS, SUBJECTS, Settings, Unavailable
from benchmarks.evaluation.report import environment, number, package_version, table

WARM_UP = 2 * INTERVAL  # steps; the first two curvature steps have less to do than those that follow
PACKAGES = ("transformers", "accelerate", "peft", "ivon-opt")
PARTS = {"draw": "draw and restore", "prior": "prior's gradient", "statistic": "statistic", "precision": "precision"}
COPIES = {None: 4, "isotropic": 5, "diagonal": 7}  # asked of resident memory, by family; of peak memory, one more
SLACK = 0.1
HOW = """\
Each method takes turns with AdamW on the same model, step by step; `×` is the ratio of medians within such a pair.
Steps are those of `Trainer.train()` (IVON's of a plain loop), from `on_step_begin` to `on_step_end`, on one synthetic
batch. While measuring every second step is a curvature step; `mean` is what an interval of {k} makes of both kinds.

Memory in copies of the trained weights, without frozen weights, buffers and the batch: {counted}. `resident`:
after the optimizer's step, gradients included, on an ordinary step. `peak`: the largest outside forward and backward
passes, where activations would count.
"""
ASKED = f"""\
Of steps at batch 8 on two CPU cores, or batch 32 on a GPU; of memory in copies, within {SLACK} for rounding.
"""
COUNTED = {
    "cpu": "live tensor storages, counted in a run of its own with a batch of two",
    "cuda": "`torch.cuda.memory_allocated` and `max_memory_allocated`, in a run of its own",
}


class MemoryHooks(cost_subjects.Hooks):
    def __init__(self, meter: StorageMeter | AllocatorMeter) -> None:
        self.meter, self.resident = meter, 0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        if not self.resident:  # the first step: what building and shuffling took does not count
            self.meter.watch(True)
            self.meter.peak = 0

    def on_forward(self) -> None:
        self.meter.watch(False)

    def on_backward_end(self) -> None:
        self.meter.watch(True)

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        self.resident = self.meter.allocated


class TimeHooks(cost_subjects.Hooks):
    def __init__(self, pause: Callable[[], None], watch: Stopwatch) -> None:
        self.pause, self.watch = pause, watch
        self.steps: list[Step] = []

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.pause()
        self.watch.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.steps.append(self.watch.stop())


def measure_memory(subject: str, name: str, settings: Settings) -> dict[str, float]:
    """Memory of a training run that ends with an ordinary step, in copies of its trained weights."""
    gc.collect()  # a Trainer is full of cycles
    with StorageMeter() if settings.device == "cpu" else AllocatorMeter() as meter:
        model = cost_subjects.build(subject, settings, METHODS[name].lora)
        batch = cost_subjects.make_batch(
            model.config, settings, 2 if settings.device == "cpu" else settings.batch_size
        )
        params = list(model.parameters())
        trained = sum(p.nbytes for p in params if p.requires_grad)
        fixed = sum(t.nbytes for t in [*params, *model.buffers(), *batch.values()]) - trained
        hooks = MemoryHooks(meter)
        cost_subjects.train(name, model, batch, settings, WARM_UP + INTERVAL, hooks)
    return {
        "trained_weights": sum(p.numel() for p in params if p.requires_grad),
        "resident_copies": (hooks.resident - fixed) / trained,
        "peak_copies": (meter.peak - fixed) / trained,
    }


def measure_times(subject: str, names: Sequence[str], settings: Settings, steps: int) -> list[list[Step]]:
    """`steps` steps of each method, which take turns; the first is a curvature step."""
    watch = Stopwatch(settings.device)
    found: list[list[Step]] = [[] for _ in names]

    def run(name: str, into: list[Step]) -> Run:
        def training(pause: Callable[[], None]) -> None:
            model = cost_subjects.build(subject, settings, METHODS[name].lora)
            batch = cost_subjects.make_batch(model.config, settings, settings.batch_size)
            hooks = TimeHooks(pause, watch)
            cost_subjects.train(name, model, batch, settings, WARM_UP + steps, hooks)
            into.extend(hooks.steps[WARM_UP:])

        return training

    gc.collect()
    with watch.installed():
        take_turns([run(name, into) for name, into in zip(names, found, strict=True)])
    return found


def figures(name: str, steps: Sequence[Step], baseline: Sequence[Step], k: int) -> dict[str, Any]:
    """Median seconds, ratios to the baseline's, and parts' shares, of ordinary, curvature and mean steps."""
    kinds = {"ordinary": steps}
    if METHODS[name].family is not None and METHODS[name].objective == "score":
        kinds = {"ordinary": [s for i, s in enumerate(steps) if i % INTERVAL], "curvature": steps[::INTERVAL]}
    medians = {kind: statistics.median(s for s, _ in found) for kind, found in kinds.items()}
    medians["mean"] = ((k - 1) * medians["ordinary"] + medians.get("curvature", medians["ordinary"])) / k
    shares = {
        kind: {part: statistics.median(parts.get(part, 0.0) / s for s, parts in found) for part in PARTS}
        for kind, found in kinds.items()
    }
    reference = statistics.median(s for s, _ in baseline)
    return {
        "seconds": medians,
        "ratios": {kind: value / reference for kind, value in medians.items()},
        "shares": shares,
        "every_step": {kind: [s for s, _ in found] for kind, found in kinds.items()},
        "every_baseline_step": [s for s, _ in baseline],
    }


def measure_model(
    subject: str, names: Sequence[str], settings: Settings, steps: int, k: int
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """A row of figures for each method, and why others have none. Baselines come before what is compared with them."""
    rows: dict[str, dict[str, Any]] = {}
    left_out: list[dict[str, str]] = []
    baselines: dict[str, list[Step]] = {}
    for name in names:
        baseline = METHODS[name].baseline
        print(f"{subject}: {name}{f' beside {baseline}' if baseline else ''}", file=sys.stderr)
        try:
            row = {"model": subject, "method": name, "baseline": baseline, **measure_memory(subject, name, settings)}
            if baseline is not None:
                reference, found = measure_times(subject, [baseline, name], settings, steps)
                baselines.setdefault(baseline, []).extend(reference)
                row |= figures(name, found, reference, k)
            rows[name] = row
        except Exception as error:  # the report's business, whatever it is
            reason = str(error) if isinstance(error, Unavailable) else f"{type(error).__name__}: {error}"
            left_out.append({"model": subject, "method": name, "reason": reason})
    for name, row in rows.items():
        if row["baseline"] is None:
            found = baselines.get(name) or measure_times(subject, [name], settings, steps)[0]
            row |= figures(name, found, found, k)
    return list(rows.values()), left_out


def checks(rows: Sequence[dict[str, Any]], settings: Settings, k: int) -> list[dict[str, Any]]:
    """What is asked of AdamW's and ScoreVI's figures, and whether it holds."""
    found: list[dict[str, Any]] = []

    def ask(row: dict[str, Any], figure: str, limit: float, measured: float, slack: float = 0.0) -> None:
        key = {"model": row["model"], "method": row["method"], "figure": figure}
        found.append({**key, "asked": limit, "measured": measured, "held": measured <= limit + slack})

    for row in rows:
        method, ratios = METHODS[row["method"]], row["ratios"]
        if row["method"] in ("advi", "ivon"):
            continue
        ask(row, "resident", COPIES[method.family], row["resident_copies"], SLACK)
        if method.family is not None and not settings.quick:
            ask(row, "peak", COPIES[method.family] + 1, row["peak_copies"], SLACK)
        if row["model"] != "vit_b16" or settings.quick:
            continue
        if row["method"] == "score_vi_diagonal":
            ask(row, "mean step ×", 1.25 if settings.device == "cpu" else 1.15, ratios["mean"])
        if row["method"] == "score_vi_lora":
            ask(row, "ordinary step ×", 1.03, ratios["ordinary"])
            ask(row, "mean step ×", 1.03 + 1 / k, ratios["mean"])
    return found


def markdown(content: dict[str, Any]) -> str:
    """The report."""
    settings, rows = content["settings"], content["rows"]
    packages = ", ".join(f"{name} {found}" for name, found in content["environment"]["packages"].items() if found)
    kind = f"{settings['optimizer']}{', bf16' * settings['bf16']}{', tiny models' * settings['quick']}"
    parts = [
        "# Cost of training\n",
        f"{content['hardware']}; batch {settings['batch_size']}, {settings['steps']} steps, {kind}; {packages}.\n",
        content["how_measured"],
    ]
    header = ["method", "weights", "ordinary [s]", "×", "curvature [s]", "×", "mean [s]", "×", "resident", "peak"]
    for model in dict.fromkeys(row["model"] for row in rows):
        lines, shares = [], []
        for row in (row for row in rows if row["model"] == model):
            times = [row[key].get(kind) for kind in ("ordinary", "curvature", "mean") for key in ("seconds", "ratios")]
            memory = [f"{row[key]:.2f}" for key in ("resident_copies", "peak_copies")]
            lines.append([row["method"], f"{row['trained_weights']:,}", *map(number, times), *memory])
            if METHODS[row["method"]].family is not None:
                for kind, share in row["shares"].items():
                    shares.append([f"{row['method']}, {kind}", *(f"{100 * value:.1f} %" for value in share.values())])
        parts += [f"## {model}\n", table(header, lines)]
        if shares:
            parts += ["Shares of a step.\n", table(["method", *PARTS.values()], shares)]
    lines = [
        [
            c["method"],
            c["model"],
            c["figure"],
            f"≤ {c['asked']:g}",
            number(c["measured"]),
            "yes" if c["held"] else "no",
        ]
        for c in content["checks"]
    ]
    parts += [
        "## Asked and measured\n",
        ASKED,
        table(["method", "model", "figure", "asked", "measured", "held"], lines),
    ]
    if content["left_out"]:
        reasons = [f"- {entry['model']}, {entry['method']}: {entry['reason']}\n" for entry in content["left_out"]]
        parts += ["## Left out\n", "".join(reasons)]
    return "\n".join(parts)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS), help="default: all")
    add("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), help="default: all; baselines are added")
    add(
        "--device",
        choices=["cpu", "cuda"],
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="default: GPU",
    )
    add("--batch-size", type=int, help="default: 8 on a CPU, 32 on a GPU")
    add("--steps", type=int, help=f"to measure, after {WARM_UP} others (default: 16; 4 with --quick)")
    add("--curvature-interval", type=int, default=10, help="of the mean step (default: 10)")
    add("--bf16", action="store_true", help="compute in bfloat16; weights stay in float32")
    add("--image-size", type=int, help="default: 224; 64 with --quick")
    add("--threads", type=int, help="torch threads on a CPU; default: torch's own choice")
    add("--output", type=Path, help="JSON file; default: results/cost-HARDWARE.json beside this program")
    add("--quick", action="store_true", help="tiny models and few steps, into results of their own name")
    args = parser.parse_args(argv)
    args.steps = args.steps or (4 if args.quick else 16)
    if args.steps < INTERVAL:
        parser.error(f"--steps must be at least {INTERVAL}, for steps of both kinds")
    needed = {*args.methods, *(METHODS[name].baseline for name in args.methods)}
    args.methods = [name for name in METHODS if name in needed]
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)
    logging.set_verbosity_error()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    batch_size = args.batch_size or (8 if args.device == "cpu" else 32)
    settings = Settings(args.device, batch_size, args.image_size or (64 if args.quick else 224), args.bf16, args.quick)
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    for subject in args.models:
        found, missing = measure_model(subject, args.methods, settings, args.steps, args.curvature_interval)
        rows += found
        left_out += missing
    facts = environment()
    facts["packages"] |= {name: package_version(name) for name in PACKAGES}
    gpu = torch.cuda.get_device_name() if args.device == "cuda" else None
    counts = {"steps": args.steps, "warm_up": WARM_UP, "curvature_interval": args.curvature_interval}
    content = {
        "hardware": gpu or f"{facts['cpu']}, {facts['torch_threads']} thread(s)",
        "environment": facts,
        "settings": {**asdict(settings), **counts, "optimizer": "adamw_torch"},
        "how_measured": HOW.format(k=args.curvature_interval, counted=COUNTED[args.device]),
        "rows": rows,
        "checks": checks(rows, settings, args.curvature_interval),
        "left_out": left_out,
    }
    name = re.sub(r"[^a-z0-9]+", "-", f"cost {gpu or 'cpu'}{' quick' * args.quick}".lower())
    output = args.output or Path(__file__).parent / "results" / f"{name}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    print(markdown(content))


if __name__ == "__main__":
    main()
