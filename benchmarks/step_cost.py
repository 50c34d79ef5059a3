"""
What moving the precisions costs: the closed-form diagonal step beside torch's AdamW step on the same tensors.

    python benchmarks/step_cost.py --output outputs/step-cost.json
    python benchmarks/step_cost.py --device cuda --weights 100000000

Steps of all kinds take turns in one process; what counts is the ratio. A curvature step is every tenth step by
default, so a tenth of the ratio is what it adds to an optimizer's step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from hf_scorevi.inference import ClosedFormUpdate, ProximalSchedule
from hf_scorevi.posterior import FAMILIES, GaussianPrior, Posterior

TENSORS = 10


def closed_form(params: list[torch.nn.Parameter], shrunk: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    """
    A step with empirical Bayes, as by default, and what prepares it: fresh curvature with signal per weight, or
    (`shrunk`) with none.
    """
    q = Posterior({f"p{i}": p for i, p in enumerate(params)}, FAMILIES["diagonal"](params, [1e4] * TENSORS, 0))
    prior = GaussianPrior([p.detach().clone() for p in params], [1.0] * TENSORS, learn_std=True)
    update = ClosedFormUpdate(q, prior, 100.0, ProximalSchedule())
    truth = [torch.full_like(p, 100.0) if shrunk else 50 + 100 * torch.rand_like(p) for p in params]
    curvature: list[torch.Tensor] = []

    def prepare() -> None:
        curvature[:] = [t + 10 * torch.randn_like(t) for t in truth]

    def step() -> None:
        update.step(curvature, 0.0)

    for _ in range(3):
        prepare()
        step()
    weight = float(update.average.shrinkage().mean())
    assert (weight == 0) == shrunk, weight
    return step, prepare


def adamw(params: list[torch.nn.Parameter], **kind: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    optimizer = torch.optim.AdamW(params, lr=1e-12, **kind)

    def prepare() -> None:
        for p in params:
            p.grad = torch.randn_like(p)

    return optimizer.step, prepare


def main(argv: Sequence[str] | None = None) -> dict[str, object]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=int, default=10_000_000, help="in all, over ten tensors")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="torch threads on a CPU")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--output", type=Path, help="JSON file")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    params = [
        torch.nn.Parameter(0.02 * torch.randn(args.weights // TENSORS, device=args.device)) for _ in range(TENSORS)
    ]
    kinds = {
        "closed form, detail": closed_form(params, shrunk=False),
        "closed form, pooled": closed_form(params, shrunk=True),
        "AdamW foreach": adamw(params, foreach=True),
        "AdamW fused": adamw(params, fused=True),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(args.repeats):
        for name, (step, prepare) in kinds.items():
            prepare()
            _wait(args.device)
            start = time.perf_counter()
            step()
            _wait(args.device)
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values[2:] or values) for name, values in times.items()}
    hardware = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {args.threads} thread(s)"
    result: dict[str, object] = {
        "hardware": hardware,
        "torch": torch.__version__.split("+")[0],
        "weights": args.weights,
        "ratio_to_foreach": {name: value / medians["AdamW foreach"] for name, value in medians.items()},
    }
    print(json.dumps(result, indent=2))
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(result, indent=2) + "\n")
    return result


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
