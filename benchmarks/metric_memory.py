"""
What the metrics cost at full size: memory beyond their input and seconds, each in a process of its own. For Linux.

    python benchmarks/metric_memory.py                                  # 10⁶ × 1000 in float32: minutes, 9 GB
    python benchmarks/metric_memory.py --examples 20000 --output -      # seconds

Prints a table in Markdown and writes it as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program

from hf_scorevi import metrics

OUTPUT = Path(__file__).parent / "results" / "metric-memory.json"
DRAWS = 4  # of which the examples of predictive_uncertainty have fewer
LIMIT = 4.0  # GB beyond the input

Inputs = Callable[[np.ndarray, np.ndarray], tuple[Any, ...]]


def labelled(table: np.ndarray, labels: np.ndarray) -> tuple[Any, ...]:
    return table, labels


SUBJECTS: dict[str, Inputs] = {
    "accuracy": labelled,
    "nll": labelled,
    "brier": labelled,
    "ece": labelled,
    "adaptive_ece": labelled,
    "mce": labelled,
    "debiased_ece": labelled,
    "classwise_ece": labelled,
    "pooled_ece": labelled,
    "aurc": labelled,
    "classification_metrics": labelled,
    "soft_nll": lambda table, labels: (table, table),
    "soft_ece": lambda table, labels: (table, table),
    "ood_detection": lambda table, labels: (table[:, 0].copy(), labels % 2),
    "predictive_uncertainty": lambda table, labels: (table.reshape(-1, DRAWS, table.shape[1]),),
    "paired_bootstrap": lambda table, labels: (table, table[::-1], labels),
}


def predictions(num_examples: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of different confidence in float32, a thousand different shapes of them, and labels."""
    rng = np.random.default_rng(0)
    shapes = rng.dirichlet(np.full(num_classes, 0.05), size=1000).astype(np.float32)
    probabilities = np.empty((num_examples, num_classes), dtype=np.float32)
    for start in range(0, num_examples, 1000):
        rows = probabilities[start : start + 1000]
        weights = rng.random((len(rows), 1), dtype=np.float32)
        np.multiply(shapes[: len(rows)], weights, out=rows)
        rows += (1 - weights) / num_classes
    return probabilities, rng.integers(num_classes, size=num_examples)


def measure(name: str, num_examples: int, num_classes: int) -> dict[str, Any]:
    """Peak of resident memory beyond what was there before the call, in GB, and seconds."""
    inputs = SUBJECTS[name](*predictions(num_examples, num_classes))
    metric = getattr(metrics, name)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before, start = _status("VmRSS"), time.perf_counter()
    metric(*inputs)
    seconds = time.perf_counter() - start
    return {
        "before_gb": round(before, 3),
        "beyond_gb": round(_status("VmHWM") - before, 3),
        "seconds": round(seconds, 1),
    }


def _status(field: str) -> float:
    """A field of this process's status, in GB."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found.group(1)) * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--metrics", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), metavar="NAME")
    parser.add_argument("--output", default=str(OUTPUT), help="JSON file, or - for none")
    parser.add_argument("--measure", choices=SUBJECTS, help=argparse.SUPPRESS)  # what a process of its own does
    options = parser.parse_args()
    size = ["--examples", str(options.examples), "--classes", str(options.classes)]
    if options.measure:
        print(json.dumps(measure(options.measure, options.examples, options.classes)))
        return
    from benchmarks.evaluation.report import environment, table  # here, because it imports torch

    results = {}
    for name in options.metrics:
        program = [sys.executable, __file__, *size, "--measure", name]
        process = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
        results[name] = json.loads(process.stdout)
        print(name, process.stdout, end="", file=sys.stderr, flush=True)
    rows = [[name, *(str(value) for value in result.values())] for name, result in results.items()]
    print(table(["metric", "process before, GB", "beyond it, GB", "seconds"], rows))
    if options.output != "-":
        report = {
            "examples": options.examples,
            "classes": options.classes,
            "dtype": "float32",
            "environment": environment(),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "results": results,
        }
        Path(options.output).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    over = [name for name, result in results.items() if result["beyond_gb"] > LIMIT]
    if over:
        sys.exit(f"more than {LIMIT} GB beyond the input: {', '.join(over)}")


if __name__ == "__main__":
    main()
