"""
What a prediction from S posterior draws costs beside S forward passes of the plain model, in time and memory.

    python benchmarks/prediction_cost.py                              # ViT-B/16 and ResNet-101, random weights
    python benchmarks/prediction_cost.py --models vit_b16 --batch-size 32 --device cuda
    python benchmarks/prediction_cost.py --target "classifier*" --draws-at-once 8 --num-samples 8   # a head alone
    python benchmarks/prediction_cost.py --quick                      # tiny models: whether it works

Both predict the same batches, in turns; the figure is the ratio of medians. On a CPU the time is that of this process
(`time.process_time`), so that other work of the machine does not count. Prints JSON, and writes it with `--output`.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program: find `benchmarks` beside the library

from benchmarks.evaluation.cost_meters import AllocatorMeter, StorageMeter
from benchmarks.evaluation.cost_subjects import SUBJECTS, Settings, build, make_batch
from benchmarks.evaluation.report import environment
from hf_scorevi import BayesianModel, PosteriorConfig
from hf_scorevi.hub import StoredPosterior
from hf_scorevi.posterior import Posterior, select_parameters

MODELS = ("vit_b16", "resnet_101")
ALLOWED_TIME, ALLOWED_COPIES = 1.05, 1.0


class Rows(torch.utils.data.Dataset):
    def __init__(self, pixels: Tensor, copies: int) -> None:
        self.pixels, self.copies = pixels, copies

    def __len__(self) -> int:
        return len(self.pixels) * self.copies

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"pixel_values": self.pixels[i % len(self.pixels)]}


def bayesian(model: nn.Module, options: argparse.Namespace) -> BayesianModel:
    config = PosteriorConfig(family=options.family, target=options.target)
    posterior = Posterior.initialise(select_parameters(model, config.target), config)
    return BayesianModel(model, posterior, StoredPosterior(config, 1, 1.0))


@torch.no_grad()
def plain(model: BayesianModel, data: Rows, batch_size: int, passes: int) -> None:
    """So many passes of the ordinary model over the data, its outputs brought back."""
    for _ in range(passes):
        for batch in torch.utils.data.DataLoader(data, batch_size=batch_size):
            model.model(batch["pixel_values"].to(model.device)).logits.cpu()


def seconds(run: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    run()
    return time.process_time() - start


def measure(name: str, settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    model = bayesian(build(name, settings, lora=False).eval(), options)
    pixels = make_batch(model.config, settings, settings.batch_size)["pixel_values"].cpu()
    data = Rows(pixels, options.batches)
    asked = {
        "batch_size": settings.batch_size,
        "num_samples": options.num_samples,
        "draws_at_once": options.draws_at_once,
        "seed": 0,
    }
    times: dict[str, list[float]] = {"plain": [], "predicted": []}
    for repeat in range(options.repeats + 1):
        own = {
            "plain": seconds(lambda: plain(model, data, settings.batch_size, options.num_samples), settings.device),
            "predicted": seconds(lambda: model.predict_dataset(data, **asked), settings.device),
        }
        for key, value in own.items() if repeat else ():  # the first warms up
            times[key].append(value)
    medians = {key: statistics.median(values) for key, values in times.items()}
    return {
        "seconds": medians,
        "all_seconds": times,
        "time_ratio": medians["predicted"] / medians["plain"],
        "peak_copies": peak_copies(name, settings, options),
    }


def peak_copies(name: str, settings: Settings, options: argparse.Namespace) -> float:
    """
    The largest memory while a draw is made and put back, beyond the model, its posterior and the batch, in copies of
    the weights; within passes only activations come on top, as of the plain model.
    """
    gc.collect()
    with StorageMeter() if settings.device == "cpu" else AllocatorMeter() as meter:
        model = bayesian(build(name, settings, lora=False).eval(), options)
        batch = {"pixel_values": make_batch(model.config, settings, 2)["pixel_values"]}
        weights = sum(p.nbytes for p in model.model.parameters())
        gc.collect()
        before = meter.allocated
        model.model.register_forward_pre_hook(lambda *args: meter.watch(False))
        model.model.register_forward_hook(lambda *args: meter.watch(True))
        meter.watch(True)
        meter.peak = 0
        draws = {"num_samples": max(2, options.draws_at_once), "draws_at_once": options.draws_at_once}
        model.predict(**batch, **draws, seed=0, return_samples=False)
    return (meter.peak - before) / weights


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=MODELS, metavar="MODEL")
    parser.add_argument("--family", default="isotropic", help="of the posterior (default: isotropic)")
    parser.add_argument("--target", default="trainable", help="Bayesian weights (default: all)")
    parser.add_argument("--draws-at-once", type=int, default=1, help="draws in one vectorised pass (default: 1)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--batches", type=int, default=8, help="batches of the data set (default: 8)")
    parser.add_argument("--num-samples", type=int, default=2, help="draws S (default: 2)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind that count (default: 3)")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="tiny models")
    parser.add_argument("--output", type=Path, help="file for the figures")
    options = parser.parse_args(argv)
    settings = Settings(options.device, options.batch_size, options.image_size, bf16=False, quick=options.quick)
    found = {
        "settings": {key: value for key, value in vars(options).items() if key != "output"},
        "environment": environment(),
        "allowed": {"time_ratio": ALLOWED_TIME, "peak_copies": ALLOWED_COPIES},
        "models": {name: measure(name, settings, options) for name in options.models},
    }
    text = json.dumps(found, indent=2)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")
    return found


if __name__ == "__main__":
    main()
