"""
Active learning: let a Bayesian ViT choose which images are to be labelled, and compare with a random choice.

The images are scikit-learn's digits 5-9, the ViT was trained on 0-4 (examples/demo.py). Every run starts with the same
ten labelled images; then, round by round, its predictive chooses ten more of a pool of 500, gets their labels, and is
fine-tuned anew. All are tested on the other images. Seeds vary the split, the order of the data and the noise; the
runs of one seed share them.

    python examples/active_learning.py            # results in outputs/active_learning
    python examples/active_learning.py --quick    # a small one that shows no more than that it runs
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor
from tqdm.auto import tqdm
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1]))

from examples import demo
from hf_scorevi import BayesianModel, PredictiveOutput, ScoreVITrainer, ScoreVITrainingArguments
from hf_scorevi.acquisition import bald, batch_bald, entropy, select
from hf_scorevi.metrics import classification_metrics
from hf_scorevi.plots import COLORS, MARKERS

POOL_SIZE = 500
BATCH = 10  # images labelled a round, and to start with
METRICS = ("accuracy", "nll")


class Size(NamedTuple):
    """Rounds of acquisition, steps of every fine-tuning, draws of every predictive, and seeds."""

    rounds: int
    steps: int
    num_samples: int
    seeds: int


FULL, QUICK = Size(3, 150, 32, 3), Size(1, 15, 2, 2)

# What each takes of the predictive for the images not labelled yet, their number and a seed, and gives their indices.
STRATEGIES: dict[str, Callable[[PredictiveOutput, int, int], Tensor]] = {
    "random": lambda output, k, seed: select(torch.zeros(len(output.probs)), k, seed),
    "entropy": lambda output, k, seed: select(entropy(output), k, seed),
    "BALD": lambda output, k, seed: select(bald(output), k, seed),
    "BatchBALD": lambda output, k, seed: batch_bald(output.samples, k, seed=seed)[0],
}

Rounds = list[dict[str, float]]


def split(seed: int) -> tuple[demo.Digits, demo.Digits, list[int]]:
    """The pool, the test images, and the first labelled images of the pool, two of each digit."""
    digits = load_digits()
    images, labels = digits.images[digits.target >= 5], digits.target[digits.target >= 5] - 5
    order = np.random.default_rng(seed).permutation(len(labels))
    pool, test = order[:POOL_SIZE], order[POOL_SIZE:]
    first = np.concatenate([np.flatnonzero(labels[pool] == k)[: BATCH // 5] for k in range(5)])
    return demo.Digits(images[pool], labels[pool]), demo.Digits(images[test], labels[test]), first.tolist()


def fine_tune(
    pretrained: Path, output_dir: Path, data: demo.Digits, labelled: list[int], steps: int, seed: int
) -> BayesianModel:
    """The demo's model, fine-tuned with the labelled images of the pool."""
    args = demo.arguments(
        ScoreVITrainingArguments, output_dir, steps, demo.LEARNING_RATE, seed, per_device_train_batch_size=BATCH
    )
    train = torch.utils.data.Subset(data, labelled)
    trainer = ScoreVITrainer(demo.new_model(pretrained, seed), args, train_dataset=train)
    trainer.train()
    trainer.save_model(str(output_dir / "checkpoint"))
    return BayesianModel.from_pretrained(output_dir / "checkpoint")


def learn(pretrained: Path, output_dir: Path, size: Size, seed: int, progress: tqdm) -> dict[str, Rounds]:
    """The figures after each round, by strategy."""
    pool, test, first = split(seed)
    start = fine_tune(pretrained, output_dir, pool, first, size.steps, seed)  # the same for all
    results: dict[str, Rounds] = {}
    for name, choose in STRATEGIES.items():
        progress.set_postfix_str(name)
        model, labelled, results[name] = start, list(first), []
        for number in range(size.rounds + 1):
            output = model.predict(pixel_values=test.pixel_values, num_samples=size.num_samples, seed=seed)
            metrics = classification_metrics(output.probs, test.labels)
            results[name].append({"labels": len(labelled)} | {metric: metrics[metric] for metric in METRICS})
            if number == size.rounds:
                break
            rest = np.setdiff1d(np.arange(POOL_SIZE), labelled)
            output = model.predict(pixel_values=pool.pixel_values[rest], num_samples=size.num_samples, seed=seed)
            labelled += rest[choose(output, BATCH, seed).numpy()].tolist()
            model = fine_tune(pretrained, output_dir, pool, labelled, size.steps, seed)
            progress.update()
    return results


def curves(results: list[dict[str, Rounds]], metric: str) -> dict[str, np.ndarray]:
    """Strategy to [seeds, rounds]."""
    return {name: np.array([[own[metric] for own in run[name]] for run in results]) for name in STRATEGIES}


def table(results: list[dict[str, Rounds]]) -> str:
    """For each metric the mean over seeds after each round; last the mean over all rounds minus that of chance."""
    labels = [own["labels"] for own in results[0]["random"]]
    lines = []
    for metric in METRICS:
        found = curves(results, metric)
        heads = "".join(f"{int(count):>8}" for count in labels)
        lines.append(f"{metric + ' with labels':22}{heads}{'all rounds − random':>24}")
        for name, values in found.items():
            # The first round is before any choice.
            gain = (values - found["random"])[:, 1:].mean(axis=1)
            error = gain.std(ddof=1) / math.sqrt(len(gain))
            last = "" if name == "random" else f"{gain.mean():>+16.4f} ± {error:.4f}"
            lines.append(f"{name:22}" + "".join(f"{mean:>8.3f}" for mean in values.mean(axis=0)) + last)
        lines.append("")
    return "\n".join(lines)


def picture(results: list[dict[str, Rounds]]) -> Figure:
    """Means over seeds against the number of labels, with their standard errors."""
    figure = Figure(figsize=(7, 3.6), dpi=100, layout="constrained")
    labels = [own["labels"] for own in results[0]["random"]]
    for axes, metric in zip(figure.subplots(1, 2), METRICS, strict=True):
        for index, (name, values) in enumerate(curves(results, metric).items()):
            error = values.std(axis=0, ddof=1) / math.sqrt(len(values))
            axes.errorbar(
                np.array(labels) + 0.4 * (index - 1.5),  # side by side
                values.mean(axis=0),
                error,
                color=COLORS[index],
                marker=MARKERS[index],
                markersize=5,
                capsize=2,
                label=name,
            )
        axes.set(xlabel="labelled images", ylabel={"nll": "NLL (nats)"}.get(metric, metric), xticks=labels)
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=len(STRATEGIES), frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/active_learning"), help="for the results")
    parser.add_argument("--quick", action="store_true", help="one round, few steps, two seeds")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    options.output_dir.mkdir(parents=True, exist_ok=True)

    start = time.perf_counter()
    progress = tqdm(total=size.seeds * len(STRATEGIES) * size.rounds, unit="round")
    with contextlib.redirect_stdout(io.StringIO()):  # the Trainer prints its last log even when silent
        pretrained = demo.pretrain(options.output_dir)
        results = [learn(pretrained, options.output_dir, size, seed, progress) for seed in range(size.seeds)]
    progress.close()
    seconds = round(time.perf_counter() - start, 1)

    print(f"\nDigits 5-9, {size.seeds} seeds; last column: paired difference ± standard error\n")
    print(table(results))
    text = json.dumps({"seeds": results, "seconds": seconds}, indent=2)
    (options.output_dir / "results.json").write_text(text + "\n")
    picture(results).savefig(options.output_dir / "active_learning.png")
    print(f"results.json and active_learning.png are in {options.output_dir}; it took {seconds:.0f} s.")


if __name__ == "__main__":
    main()
