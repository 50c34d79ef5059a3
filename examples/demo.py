"""
Fine-tune a small ViT with few labels, once by AdamW and once Bayesianly, and compare their calibration.

The images are scikit-learn's handwritten digits (8x8, real). The ViT is trained on the digits 0-4, then fine-tuned on
50 labelled images of 5-9 and tested on the rest of those. Both methods get the same learning rate and the same number
of gradient evaluations (a curvature step of ScoreVI counts twice). Five seeds vary the labels drawn, the order of the
data and the noise.

    python examples/demo.py                              # results in outputs/demo
    python examples/demo.py --learning_rate_scale 3      # the same at three times the learning rate
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.utils.data import Dataset
from tqdm.auto import tqdm
from transformers import (
    AutoModelForImageClassification,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)
from transformers.utils import logging

from hf_scorevi import BayesianModel, ScoreVITrainer, ScoreVITrainingArguments
from hf_scorevi.metrics import classification_metrics
from hf_scorevi.plots import reliability_diagram

LEARNING_RATE = 1e-3
GRADIENT_EVALUATIONS = 600
BATCH_SIZE = 25
NUM_LABELLED = 50
NUM_SEEDS = 5
METRICS = ("accuracy", "nll", "ece", "brier")
ROWS = {"adamw": "AdamW", "score_vi_mean": "ScoreVI, mean", "score_vi": "ScoreVI, predictive"}

Runs = list[dict[str, float]]


class Digits(Dataset):
    """Digits as a Trainer takes them: `pixel_values` of shape (1, 8, 8), mean 0 and std about 1, and `labels`."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.pixel_values = torch.tensor((images[:, None] / 16 - 0.3) / 0.38, dtype=torch.float32)
        self.labels = torch.tensor(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.pixel_values[i], "labels": self.labels[i]}


def digits_task(seed: int) -> tuple[Digits, Digits]:
    """50 labelled images of the digits 5-9, ten of each, and all the others of them."""
    digits = load_digits()
    images, labels = digits.images[digits.target >= 5], digits.target[digits.target >= 5] - 5
    order = np.random.default_rng(seed).permutation(len(labels))
    train = np.concatenate([order[labels[order] == k][: NUM_LABELLED // 5] for k in range(5)])
    test = np.setdiff1d(order, train)
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


def arguments(
    cls: type[TrainingArguments], output_dir: Path, steps: int, learning_rate: float, seed: int, **kwargs: Any
) -> Any:
    """What all runs share; for the rest, the library's defaults."""
    settings: dict[str, Any] = {
        "output_dir": str(output_dir),
        "max_steps": steps,
        "learning_rate": learning_rate,
        "seed": seed,
        "per_device_train_batch_size": BATCH_SIZE,
        "per_device_eval_batch_size": 1024,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    return cls(**(settings | kwargs))


def untrained_vit() -> ViTForImageClassification:
    """3 layers, 48 wide, five classes."""
    return ViTForImageClassification(
        ViTConfig(
            image_size=8,
            patch_size=2,
            num_channels=1,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=96,
            num_labels=5,
        )
    )


def pretrain(output_dir: Path) -> Path:
    """A 3-layer, 48-wide ViT trained on the digits 0-4; only its body is kept."""
    digits = load_digits()
    known = digits.target < 5
    set_seed(0)
    model = untrained_vit()
    args = arguments(
        TrainingArguments, output_dir, steps=300, learning_rate=2e-3, seed=0, per_device_train_batch_size=64
    )
    Trainer(model, args, train_dataset=Digits(digits.images[known], digits.target[known])).train()
    model.base_model.save_pretrained(output_dir / "pretrained")
    return output_dir / "pretrained"


def new_model(pretrained: Path, seed: int) -> ViTForImageClassification:
    """The pretrained body with a new head for five classes."""
    set_seed(seed)
    return AutoModelForImageClassification.from_pretrained(pretrained, num_labels=5)


def run_adamw(pretrained: Path, output_dir: Path, learning_rate: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Test probabilities and labels after ordinary fine-tuning."""
    train, test = digits_task(seed)
    args = arguments(TrainingArguments, output_dir, GRADIENT_EVALUATIONS, learning_rate, seed)
    trainer = Trainer(new_model(pretrained, seed), args, train_dataset=train)
    trainer.train()
    prediction = trainer.predict(test)
    return torch.tensor(prediction.predictions).softmax(-1).numpy(), prediction.label_ids


def score_vi_steps(curvature_interval: int) -> int:
    """Optimizer steps that use up the gradient evaluations, counting a curvature step twice."""
    steps = GRADIENT_EVALUATIONS
    while steps + math.ceil(steps / curvature_interval) > GRADIENT_EVALUATIONS:
        steps -= 1
    return steps


def run_score_vi(pretrained: Path, output_dir: Path, learning_rate: float, seed: int) -> ScoreVITrainer:
    """Bayesian fine-tuning with the defaults of the library."""
    train, test = digits_task(seed)
    steps = score_vi_steps(ScoreVITrainingArguments.curvature_interval)
    args = arguments(ScoreVITrainingArguments, output_dir, steps, learning_rate, seed)
    trainer = ScoreVITrainer(new_model(pretrained, seed), args, train_dataset=train, eval_dataset=test)
    trainer.train()
    return trainer


def check_reload(trainer: ScoreVITrainer, folder: Path, expected: dict[str, float]) -> None:
    """Save, load as a stranger would, predict, and compare the figures with those of the trainer."""
    trainer.save_model(str(folder))
    test: Any = trainer.eval_dataset
    output = BayesianModel.from_pretrained(folder).predict(
        pixel_values=test.pixel_values, num_samples=trainer.args.eval_num_samples, seed=trainer.args.seed
    )
    reloaded = classification_metrics(output.probs, test.labels)
    for name in METRICS:
        if abs(reloaded[name] - expected[name]) > 1e-5:
            raise SystemExit(f"The reloaded checkpoint's {name} is {reloaded[name]}, the trainer's {expected[name]}.")
    print(f"The checkpoint in {folder} loads again and gives the same figures.")


def differences(results: dict[str, Runs]) -> dict[str, np.ndarray]:
    """Predictive minus AdamW, seed by seed, for each metric."""
    pairs = list(zip(results["score_vi"], results["adamw"], strict=True))
    return {name: np.array([ours[name] - theirs[name] for ours, theirs in pairs]) for name in METRICS}


def standard_error(values: np.ndarray) -> float:
    return values.std(ddof=1) / math.sqrt(len(values))


def table(results: dict[str, Runs]) -> str:
    """Mean ± standard deviation over the seeds; last the paired difference to AdamW ± its standard error."""
    lines = [" " * 22 + "".join(f"{name:>18}" for name in METRICS)]
    for row, title in ROWS.items():
        columns = [np.array([run[name] for run in results[row]]) for name in METRICS]
        lines.append(f"{title:22}" + "".join(f"{c.mean():>10.3f} ± {c.std(ddof=1):.3f}" for c in columns))
    paired = differences(results).values()
    lines.append(
        f"{'predictive − AdamW':22}" + "".join(f"{d.mean():>+10.3f} ± {standard_error(d):.3f}" for d in paired)
    )
    return "\n".join(lines)


def shortfalls(results: dict[str, Runs]) -> list[str]:
    """What the predictive should beat AdamW in and doesn't; empty if all is well."""
    paired = differences(results)
    found = [
        f"{name} is not lower by a standard error"
        for name in ("nll", "ece")
        if not paired[name].mean() < -standard_error(paired[name])
    ]
    if (paired["nll"] < 0).sum() < len(paired["nll"]) - 1:
        found.append("nll is lower in too few seeds")
    if paired["accuracy"].mean() < -standard_error(paired["accuracy"]):
        found.append("accuracy is lower by more than a standard error")
    return found


def compare(options: argparse.Namespace, learning_rate: float) -> tuple[dict[str, Runs], ScoreVITrainer, Any]:
    """All runs: their metrics, the last Bayesian trainer, and the test predictions of all seeds by method."""
    pretrained = pretrain(options.output_dir)
    results: dict[str, Runs] = {row: [] for row in ROWS}
    predictions: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {"AdamW": [], "ScoreVI": []}
    progress = tqdm(range(options.num_seeds), desc=f"fine-tuning at lr {learning_rate:g}", unit="seed")
    for seed in progress:
        progress.set_postfix_str("AdamW")
        probabilities, labels = run_adamw(pretrained, options.output_dir, learning_rate, seed)
        predictions["AdamW"].append((probabilities, labels))
        metrics = classification_metrics(probabilities, labels)
        results["adamw"].append({"seed": seed} | {name: metrics[name] for name in METRICS})

        progress.set_postfix_str("ScoreVI")
        trainer = run_score_vi(pretrained, options.output_dir, learning_rate, seed)
        prediction = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval")
        predictions["ScoreVI"].append((np.exp(prediction.predictions), labels))
        for row, prefix in (("score_vi_mean", "eval_mean_"), ("score_vi", "eval_")):
            results[row].append({"seed": seed} | {name: prediction.metrics[prefix + name] for name in METRICS})
    return results, trainer, predictions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/demo"), help="where everything goes")
    parser.add_argument("--learning_rate_scale", type=float, default=1.0, help=f"times {LEARNING_RATE:g}, for both")
    parser.add_argument("--num_seeds", type=int, default=NUM_SEEDS, help="runs of each method, at least 2")
    options = parser.parse_args()
    if options.num_seeds < 2:
        parser.error("--num_seeds must be at least 2: the table shows spreads.")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # more are no faster for so small a model, and the figures would depend on their number
    options.output_dir.mkdir(parents=True, exist_ok=True)
    learning_rate = LEARNING_RATE * options.learning_rate_scale

    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):  # the Trainer prints its last log even when silent
        results, trainer, predictions = compare(options, learning_rate)
    seconds = round(time.perf_counter() - start, 1)

    print(f"\nDigits 5-9, {NUM_LABELLED} labels, {GRADIENT_EVALUATIONS} gradient evaluations, lr {learning_rate:g}")
    print("mean ± standard deviation over seeds; last row: paired difference ± standard error\n")
    print(table(results) + "\n")
    text = json.dumps(results | {"seconds": seconds}, indent=2)
    (options.output_dir / "results.json").write_text(text + "\n")
    check_reload(trainer, options.output_dir / "checkpoint", results["score_vi"][-1])
    curves = {
        name: tuple(np.concatenate(part) for part in zip(*runs, strict=True)) for name, runs in predictions.items()
    }
    figure = reliability_diagram(curves, title=f"Digits 5-9, {NUM_LABELLED} labels, {options.num_seeds} seeds pooled")
    figure.savefig(options.output_dir / "reliability.png")
    print(f"results.json, reliability.png and the checkpoint are in {options.output_dir}; it took {seconds:.0f} s.")
    if found := shortfalls(results):
        raise SystemExit("The predictive should beat AdamW here, but: " + "; ".join(found) + ".")


if __name__ == "__main__":
    main()
