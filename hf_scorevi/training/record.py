"""What a run's checkpoint tells of the run, for its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from ..hub import describe_data

__all__ = ["training_record"]


def training_record(trainer: Trainer) -> dict[str, Any]:
    """
    Data, optimizer and hardware, as JSON values, `None` for what is not known. Names are those of the Hub: no path of
    this machine and no token is among them.
    """
    args, model = trainer.args, trainer.accelerator.unwrap_model(trainer.model)
    config = getattr(model, "config", None)
    base = getattr(config, "_name_or_path", None)
    dataset = trainer.train_dataset
    try:
        size: int | None = len(dataset)  # type: ignore[arg-type]
    except TypeError:  # none, or a stream
        size = None
    mixed = trainer.accelerator.mixed_precision
    return {
        "base_model": base if base and not Path(base).exists() else None,
        "dataset": describe_data(dataset)["dataset"] if dataset is not None else None,
        "train_examples": size,
        "epochs": None if trainer.state.epoch is None else round(trainer.state.epoch, 2),
        "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "learning_rate": args.learning_rate,
        "optimizer": str(getattr(args.optim, "value", args.optim)),
        "lr_scheduler": str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
        "mixed_precision": None if mixed == "no" else mixed,
        "device": torch.cuda.get_device_name() if args.device.type == "cuda" else args.device.type,
        "processes": args.world_size,
    }
