"""
Calibration on real images with few labels: AdamW, AdamW with a temperature, and ScoreVI.

    python benchmarks/calibration.py --data-dir PATH --output-dir outputs/calibration    # half an hour on one core
    python benchmarks/calibration.py --quick                                             # synthetic images, seconds

Prints a report in Markdown, and writes it to report.md with pictures and, with all figures, results.json.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.special import entr
from transformers import ResNetConfig, ViTConfig
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program: find `benchmarks` beside the library

from benchmarks.evaluation import calibration_runs as runs
from benchmarks.evaluation.calibration_report import draw, markdown
from benchmarks.evaluation.calibration_tasks import (
    Data,
    Task,
    load_cifar10,
    load_fashion_mnist,
    pretrain,
    synthetic,
)
from benchmarks.evaluation.report import environment, package_version
from hf_scorevi.posthoc import fit_temperature

RESULTS = Path("outputs/calibration")
RECORDED = (
    "num_train",
    "num_validation",
    "batch_size",
    "gradient_evaluations",
    "pretraining_steps",
    "learning_rates",
)


def resnet(channels: int, widths: list[int]) -> ResNetConfig:
    """Of basic layers, one a stage."""
    return ResNetConfig(
        num_channels=channels,
        embedding_size=widths[0],
        hidden_sizes=widths,
        depths=[1] * len(widths),
        layer_type="basic",
    )


def vit(size: int, patch: int, width: int, layers: int) -> ViTConfig:
    """For gray images."""
    return ViTConfig(
        image_size=size,
        patch_size=patch,
        num_channels=1,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
    )


TASKS = {
    "cifar10": Task(
        title="CIFAR-10, a ResNet",
        load=load_cifar10,
        config=resnet(3, [32, 64, 128]),
        num_train=2000,
        num_validation=500,
        batch_size=50,
        gradient_evaluations=400,
        pretraining_steps=3000,
        learning_rates=(3e-4, 1e-3, 3e-3),
    ),
    "fashion_mnist": Task(
        title="Fashion-MNIST against MNIST, a ViT",
        load=load_fashion_mnist,
        config=vit(28, 7, 64, 4),
        num_train=2000,
        num_validation=500,
        batch_size=50,
        gradient_evaluations=400,
        pretraining_steps=3000,
        learning_rates=(3e-4, 1e-3, 3e-3),
    ),
}


def quick(name: str) -> Task:
    """The same with synthetic images and a tiny network."""
    small: dict[str, Any] = {
        "cifar10": {"load": synthetic(3), "config": resnet(3, [8, 8])},
        "fashion_mnist": {"load": synthetic(1), "config": vit(8, 4, 16, 2)},
    }
    numbers = {"num_train": 100, "num_validation": 50, "gradient_evaluations": 11, "pretraining_steps": 2}
    changes = {"learning_rates": (1e-3, 3e-3), "title": f"{TASKS[name].title} (synthetic images)"}
    return dataclasses.replace(TASKS[name], **small[name] | numbers | changes)


def try_rates(task: Task, data: Data, pretrained: Path, folder: Path) -> dict[str, dict[float, float]]:
    """Validation NLL after temperature scaling, on seed 0, of both methods at each learning rate of the grid."""
    train, validation = task.draw(data, 0)
    found: dict[str, dict[float, float]] = {"adamw": {}, "score_vi": {}}
    for rate in task.learning_rates:
        model = runs.train_adamw(task, train, pretrained, folder / "adamw", rate, 0)
        _, bayesian = runs.train_score_vi(task, train, pretrained, folder / "score_vi", rate, 0)
        predicted = {
            "adamw": runs.predict_plainly(model, validation),
            "score_vi": runs.predict_by_draws(bayesian, validation, seed=0),
        }
        for method, own in predicted.items():
            temperature = fit_temperature(own.log_probs, validation.labels)
            scaled = own.scaled(temperature).log_probs
            found[method][rate] = torch.nn.functional.nll_loss(scaled, validation.labels).item()
    return found


def run_task(name: str, task: Task, options: argparse.Namespace) -> dict[str, Any]:
    """All seeds of one task: what the report needs. Draws the pictures."""
    folder = options.output_dir / "work" / name
    pretrained = folder / "pretrained"
    data = task.load(options.data_dir)
    marks = [time.perf_counter()]
    if not (pretrained / "config.json").is_file():
        say(f"{name}: pretraining")
        pretrain(task, data, pretrained)
    marks.append(time.perf_counter())
    say(f"{name}: learning rates")
    tried = try_rates(task, data, pretrained, folder)
    rates = {method: min(found, key=found.__getitem__) for method, found in tried.items()}
    marks.append(time.perf_counter())

    rows: dict[str, list[dict[str, Any]]] = {}
    outcomes = []
    for seed in range(options.seeds):
        say(f"{name}: seed {seed}")
        found = runs.with_temperatures(runs.run_seed(task, data, pretrained, folder, rates, seed))
        outcomes.append(found)
        for row, outcome in found.items():
            facts = {"seed": seed, "temperature": outcome.temperature, "seconds": outcome.seconds}
            rows.setdefault(row, []).append(facts | {"figures": runs.figures(outcome, data)})
    return {
        "title": task.title,
        "settings": {key: getattr(task, key) for key in RECORDED} | {"network": task.config.to_diff_dict()},
        "num_weights": sum(p.numel() for p in runs.start(pretrained, 0).parameters()),
        "num_pool": len(data.pool),
        "num_test": len(data.test),
        "num_others": None if data.others is None else len(data.others),
        "human_entropy": None if data.human is None else float(entr(data.human).sum(1).mean()),
        "learning_rates": rates,
        "validation_nll_by_learning_rate": tried,
        "seconds": {"pretraining": marks[1] - marks[0], "learning_rates": marks[2] - marks[1]},
        "rows": rows,
        "pictures": draw(name, task.title, outcomes, data, options.output_dir),
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data-dir", type=Path, help="folder of cifar10/, fashion_mnist/ and mnist_test/")
    add("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS), help="default: all")
    add("--seeds", type=int, default=3, help="runs of each method, at least 2 (default: 3)")
    add("--output-dir", type=Path, default=RESULTS, help=f"default: {RESULTS}; a pretrained network in it is used")
    add("--quick", action="store_true", help="synthetic images and tiny networks: whether it works")
    args = parser.parse_args(argv)
    if args.seeds < 2:
        parser.error("--seeds must be at least 2: the report shows spreads")
    if args.data_dir is None and not args.quick:
        parser.error("give --data-dir, or --quick for synthetic images")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    options = parse_arguments(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # the figures would depend on their number
    options.output_dir.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):  # the Trainer prints its last log even when silent
        found = {
            name: run_task(name, quick(name) if options.quick else TASKS[name], options)
            for name in dict.fromkeys(options.tasks)
        }
    facts = environment()
    facts["packages"] |= {name: package_version(name) for name in ("transformers", "accelerate")}
    content = {
        "environment": facts,
        "seeds": list(range(options.seeds)),
        "num_samples": runs.NUM_SAMPLES,
        "quick": options.quick,
        "seconds": time.perf_counter() - began,
        "tasks": found,
    }
    (options.output_dir / "results.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    report = markdown(content)
    (options.output_dir / "report.md").write_text(report)
    print(report)


if __name__ == "__main__":
    main()
