"""
A full-size model on a CPU from end to end: train with a posterior on all weights, save, reload, predict.

    python benchmarks/full_size.py vit_l32 --output-dir outputs/full-size
    python benchmarks/full_size.py resnet_101 --family diagonal

The weights are random and the images noise: what is measured is the process's largest memory and the time, what is
checked is that the checkpoint gives the mean and the posterior back to the last bit. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a program: find `benchmarks` beside the library

from benchmarks.evaluation.cost_subjects import SUBJECTS, Settings, build, make_batch
from benchmarks.evaluation.report import environment
from hf_scorevi import BayesianModel, PosteriorConfig, ScoreVITrainer, ScoreVITrainingArguments

CLASSIFIERS = [name for name in SUBJECTS if name.startswith(("vit", "resnet"))]


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=CLASSIFIERS)
    parser.add_argument("--family", default="diagonal", choices=["isotropic", "diagonal"], help="default: diagonal")
    parser.add_argument("--batch-size", type=int, default=4, help="default: 4")
    parser.add_argument("--steps", type=int, default=4, help="every second is a curvature step (default: 4)")
    parser.add_argument("--num-samples", type=int, default=2, help="draws of the prediction (default: 2)")
    parser.add_argument("--output-dir", type=Path, default=Path("outputs/full-size"), help="for the checkpoint")
    parser.add_argument("--quick", action="store_true", help="a tiny model of the same kind: whether it works")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    args = parse_arguments(argv)
    settings = Settings("cpu", args.batch_size, 64 if args.quick else 224, bf16=False, quick=args.quick)
    start = time.perf_counter()
    model = build(args.model, settings, lora=False)
    batch = make_batch(model.config, settings, args.batch_size)
    folder = args.output_dir / args.model
    trainer = ScoreVITrainer(
        model,
        ScoreVITrainingArguments(
            str(folder),
            max_steps=args.steps,
            per_device_train_batch_size=args.batch_size,
            curvature_interval=2,
            learning_rate=1e-5,
            use_cpu=True,
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            batch_norm_batches=1,
        ),
        data_collator=lambda rows: dict(batch),
        train_dataset=range(10_000),
        posterior_config=PosteriorConfig(family=args.family),
    )
    trainer.train()
    seconds = {"train": time.perf_counter() - start}
    mean = {name: value.detach().clone() for name, value in model.state_dict().items()}
    state = [value.clone() for *_, value in trainer.posterior.state()]
    start = time.perf_counter()
    trainer.save_model()
    seconds["save"] = time.perf_counter() - start
    del trainer, model
    start = time.perf_counter()
    loaded = BayesianModel.from_pretrained(folder)
    seconds["load"] = time.perf_counter() - start
    exact = all(torch.equal(value, mean[name]) for name, value in loaded.model.state_dict().items())
    exact &= all(torch.equal(value, own) for (*_, value), own in zip(loaded.posterior.state(), state, strict=True))
    if not exact:
        raise SystemExit(f"{folder} gave back other weights or another posterior than were saved.")
    start = time.perf_counter()
    out = loaded.predict(pixel_values=batch["pixel_values"], num_samples=args.num_samples, seed=0)
    seconds["predict"] = time.perf_counter() - start
    facts = environment()
    found = {
        "model": args.model,
        "weights": loaded.posterior.num_weights,
        "family": args.family,
        "batch_size": args.batch_size,
        "probabilities_sum": out.probs.sum(-1).mean().item(),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),  # Linux counts kB
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "hardware": f"{facts['cpu']}, {facts['torch_threads']} thread(s)",
        "torch": facts["packages"].get("torch"),
    }
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    main()
