"""
Out-of-distribution detection: which model is less certain of digits that it has never seen?

A small ViT is trained from scratch on 150 labelled images of scikit-learn's digits 0-4, once by AdamW and once
Bayesianly, with the same learning rate and number of gradient evaluations. The other images of 0-4 are in
distribution, those of 5-9 are not; a score tells them apart with an AUROC between 0.5 (not at all) and 1. Seeds vary
the images, the first weights, the order of the data and the noise.

    python examples/ood_detection.py            # results in outputs/ood_detection
    python examples/ood_detection.py --quick    # a small one that shows no more than that it runs
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from tqdm.auto import tqdm
from transformers import Trainer, TrainingArguments, ViTForImageClassification, set_seed
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1]))

from examples import demo
from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer, ScoreVITrainingArguments
from hf_scorevi.acquisition import entropy
from hf_scorevi.metrics import accuracy
from hf_scorevi.ood import energy, evaluate_ood
from hf_scorevi.plots import entropy_histogram

NUM_LABELLED = 150
METRICS = ("auroc", "fpr95")


class Size(NamedTuple):
    """Gradient evaluations of every run, draws of every predictive, and seeds."""

    gradient_evaluations: int
    num_samples: int
    seeds: int


FULL, QUICK = Size(600, 32, 5), Size(22, 4, 2)


class Outputs(NamedTuple):
    """Of one model for some images: probabilities (B, K), and scores by name, each (B,)."""

    probs: Tensor
    scores: dict[str, Tensor]


Models = dict[str, tuple[Outputs, Outputs]]  # in distribution and out of it


def split(seed: int) -> tuple[demo.Digits, demo.Digits, demo.Digits]:
    """Training images of the digits 0-4, the other images of these, and all of 5-9 (with their labels)."""
    digits = load_digits()
    known = np.random.default_rng(seed).permutation(np.flatnonzero(digits.target < 5))
    parts = known[:NUM_LABELLED], known[NUM_LABELLED:], np.flatnonzero(digits.target >= 5)
    train, inside, outside = (demo.Digits(digits.images[part], digits.target[part]) for part in parts)
    return train, inside, outside


def new_model(seed: int) -> ViTForImageClassification:
    """The demo's ViT, not trained."""
    set_seed(seed)
    return demo.untrained_vit()


def run_adamw(output_dir: Path, train: demo.Digits, tests: list[Tensor], size: Size, seed: int) -> list[Outputs]:
    """What an ordinary model says of each set of images."""
    args = demo.arguments(TrainingArguments, output_dir, size.gradient_evaluations, demo.LEARNING_RATE, seed)
    trainer = Trainer(new_model(seed), args, train_dataset=train)
    trainer.train()
    found = []
    with torch.no_grad():
        for pixel_values in tests:
            logits = trainer.model.eval()(pixel_values=pixel_values).logits
            probs = logits.softmax(-1)
            found.append(Outputs(probs, {"entropy": entropy(probs), "energy": energy(logits)}))
    return found


def run_score_vi(
    output_dir: Path, train: demo.Digits, tests: list[Tensor], size: Size, seed: int
) -> tuple[list[Outputs], list[Outputs]]:
    """The same of the mean's weights and of the posterior predictive."""
    interval = ScoreVITrainingArguments.curvature_interval
    steps = size.gradient_evaluations * interval // (interval + 1)  # every tenth takes two
    args = demo.arguments(ScoreVITrainingArguments, output_dir, steps, demo.LEARNING_RATE, seed)
    # From scratch, the first weights are nothing to stay close to.
    trainer = ScoreVITrainer(
        new_model(seed), args, train_dataset=train, posterior_config=PosteriorConfig(prior_mean="zero")
    )
    trainer.train()
    trainer.save_model(str(output_dir / "checkpoint"))
    model = BayesianModel.from_pretrained(output_dir / "checkpoint")
    means, predictives = [], []
    for pixel_values in tests:
        output = model.predict(pixel_values=pixel_values, use_mean=True)
        means.append(Outputs(output.probs, {"entropy": output.entropy}))
        output = model.predict(pixel_values=pixel_values, num_samples=size.num_samples, seed=seed)
        scores = {"entropy": output.entropy, "mutual information": output.mutual_information}
        predictives.append(Outputs(output.probs, scores))
    return means, predictives


def compare(output_dir: Path, size: Size, seed: int) -> tuple[Models, dict[str, dict[str, float]]]:
    """What the models say, and how well each score tells the two sets of images apart."""
    train, inside, outside = split(seed)
    tests = [inside.pixel_values, outside.pixel_values]
    adamw = run_adamw(output_dir, train, tests, size, seed)
    mean, predictive = run_score_vi(output_dir, train, tests, size, seed)
    models = {"AdamW": adamw, "ScoreVI, mean": mean, "ScoreVI, predictive": predictive}
    figures = {}
    for name, (known, unknown) in models.items():
        for score, values in known.scores.items():
            found = evaluate_ood(values, unknown.scores[score])
            own = {metric: found[metric] for metric in METRICS}
            figures[f"{name}: {score}"] = own | accuracy(known.probs, inside.labels)
    return {name: (known, unknown) for name, (known, unknown) in models.items()}, figures


def table(results: list[dict[str, dict[str, float]]]) -> str:
    """Mean ± standard deviation over seeds, and the paired difference in AUROC to AdamW's entropy ± its error."""
    lines = [f"{'':40}{'accuracy on 0-4':>18}{'AUROC':>18}{'FPR95':>18}{'AUROC − AdamW':>20}"]
    reference = np.array([run["AdamW: entropy"]["auroc"] for run in results])
    for row in results[0]:
        columns = [np.array([run[row][metric] for run in results]) for metric in ("accuracy", *METRICS)]
        gain = columns[1] - reference
        error = gain.std(ddof=1) / math.sqrt(len(gain))
        last = "" if row == "AdamW: entropy" else f"{gain.mean():>+12.3f} ± {error:.3f}"
        lines.append(f"{row:40}" + "".join(f"{c.mean():>10.3f} ± {c.std(ddof=1):.3f}" for c in columns) + last)
    return "\n".join(lines)


def pooled(runs: list[Models]) -> dict[str, tuple[Tensor, Tensor]]:
    """Model to its entropies in and out of distribution, of all seeds."""

    def entropies(name: str, side: int) -> Tensor:
        return torch.cat([run[name][side].scores["entropy"] for run in runs])

    return {name: (entropies(name, 0), entropies(name, 1)) for name in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/ood_detection"), help="for the results")
    parser.add_argument("--quick", action="store_true", help="few steps, two seeds")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    options.output_dir.mkdir(parents=True, exist_ok=True)

    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):  # the Trainer prints its last log even when silent
        seeds = tqdm(range(size.seeds), unit="seed")
        found = [compare(options.output_dir, size, seed) for seed in seeds]
    results = [figures for _, figures in found]
    seconds = round(time.perf_counter() - start, 1)

    print(f"\nDigits 0-4 in, 5-9 out of distribution; {NUM_LABELLED} labels, {size.seeds} seeds")
    print("mean ± standard deviation over seeds; last column: paired difference ± standard error\n")
    print(table(results) + "\n")
    text = json.dumps({"seeds": results, "seconds": seconds}, indent=2)
    (options.output_dir / "results.json").write_text(text + "\n")
    entropies = pooled([models for models, _ in found])
    figure = entropy_histogram(entropies, title=f"Digits 0-4 in, 5-9 out, {size.seeds} seeds pooled")
    figure.savefig(options.output_dir / "entropy.png")
    print(f"results.json and entropy.png are in {options.output_dir}; it took {seconds:.0f} s.")


if __name__ == "__main__":
    main()
