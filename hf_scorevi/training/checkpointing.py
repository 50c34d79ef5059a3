"""A training checkpoint beyond the mean and its optimizer: state, posterior, record of the run; exact loading."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer, TrainerState
from transformers.trainer_callback import ExportableState

from ..errors import PosteriorCheckpointError
from ..hub import StoredPosterior, describe_data, load_posterior, write_aside
from ..inference import NoiseVariance, PosteriorUpdate
from ..posterior import Posterior
from .checkpoint_folders import RUN, STATE_NAME

__all__ = ["load_posterior_into", "load_state", "record_callbacks", "save_state", "training_record"]

_NOISE = "noise."


def save_state(
    folder: str | os.PathLike[str],
    update: PosteriorUpdate,
    noise: NoiseVariance | None = None,
    write: bool = True,
    run: int = 0,
) -> None:
    """
    Write averages, counters, prior and observation noise, from which a resumed run continues; called by all processes.

    Args:
        write: whether this process is the one that writes.
        run: number of the run among those that have written checkpoints beside `folder`.
    """
    values = update.state_dict()
    if noise is not None:
        values |= {_NOISE + name: value for name, value in noise.state_dict().items()}
    if write:
        state = {name: value.detach().cpu().contiguous() for name, value in values.items()}
        write_aside(Path(folder) / STATE_NAME, lambda path: save_file(state, path, metadata={RUN: str(run)}))


def load_state(folder: str | os.PathLike[str], update: PosteriorUpdate, noise: NoiseVariance | None = None) -> None:
    """
    Load into `update` and `noise` what `save_state` has written.

    Raises:
        PosteriorCheckpointError: there is no such state, or it cannot be read.
    """
    path = Path(folder) / STATE_NAME
    if not path.is_file():
        raise PosteriorCheckpointError(
            f"{folder} has no {STATE_NAME}, so training cannot be resumed from it: it was saved as a model alone "
            "(save_only_model=True, or save_model). Start a new run from its weights (trainer.load_model), or resume "
            "from a checkpoint that was saved without save_only_model."
        )
    try:
        state = load_file(path)
        update.load_state_dict({name: value for name, value in state.items() if not name.startswith(_NOISE)})
        if noise is not None:
            noise.load_state_dict({k.removeprefix(_NOISE): v for k, v in state.items() if k.startswith(_NOISE)})
    except (SafetensorError, OSError, KeyError) as error:
        raise PosteriorCheckpointError(
            f"{path} cannot be read ({error!r}), so training cannot be resumed exactly. Resume from an earlier "
            "checkpoint, or start anew from this one's weights."
        ) from error


@torch.no_grad()
def load_posterior_into(posterior: Posterior, folder: str | os.PathLike[str], model: nn.Module) -> StoredPosterior:
    """
    Copy the precisions stored in `folder` into the live `posterior`, and return what is recorded with them.

    Raises:
        PosteriorCheckpointError: they are over other weights, or of another family or rank.
    """
    stored, record = load_posterior(folder, model)
    if stored.names != posterior.names:
        difference = sorted(set(stored.names) ^ set(posterior.names))
        raise PosteriorCheckpointError(
            f"The posterior in {folder} is over other weights than this trainer's: {difference[:3]} differ. "
            "Give the same PosteriorConfig(target=..., exclude=...) as the run that wrote it."
        )
    if stored.family.name != posterior.family.name:
        raise PosteriorCheckpointError(
            f"The posterior in {folder} is {stored.family.name}, this trainer's is {posterior.family.name}."
        )
    index = {name: i for i, name in enumerate(posterior.names)}
    parts = [posterior.shards.part(index[name], value) for name, _, value in stored.state()]
    live = [value for *_, value in posterior.state()]
    if any(a.shape != b.shape for a, b in zip(live, parts, strict=True)):
        raise PosteriorCheckpointError(
            f"The posterior in {folder} has another rank than this trainer's; give the same PosteriorConfig(rank=...)."
        )
    for value, part in zip(live, parts, strict=True):
        value.copy_(part)
    return record


def record_callbacks(state: TrainerState, candidates: Iterable[Any]) -> None:
    """Put the states of those `candidates` that have one into `state`, to be resumed from."""
    latest: dict[str, list[Any]] = {}
    for callback in candidates:
        if isinstance(callback, ExportableState):
            latest.setdefault(type(callback).__name__, []).append(callback.state())
    for name, states in latest.items():
        state.stateful_callbacks[name] = states if len(states) > 1 else states[0]  # type: ignore[call-overload,index]


def training_record(trainer: Trainer) -> dict[str, Any]:
    """
    Return data, optimizer and hardware of a run, for its model card: JSON values, `None` for what is not known. Names
    are those of the Hub: no path of this machine and no token is among them.
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
