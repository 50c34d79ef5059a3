"""What a training checkpoint holds beyond the mean and its optimizer, and loading that is exact."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerState
from transformers.trainer_callback import ExportableState

from ..errors import PosteriorCheckpointError
from ..hub import StoredPosterior, load_posterior, write_aside
from ..inference import NoiseVariance, PosteriorUpdate
from ..posterior import Posterior
from .checkpoint_folders import RUN, STATE_NAME

__all__ = [
    "load_posterior_into",
    "load_state",
    "record_callbacks",
    "save_state",
]

_NOISE = "noise."


def save_state(
    folder: str | os.PathLike[str],
    update: PosteriorUpdate,
    noise: NoiseVariance | None = None,
    write: bool = True,
    run: int = 0,
) -> None:
    """
    Averages, counters, the prior and the noise, which a resumed run continues from. All processes call it, one writes.

    Args:
        run: number of the run, of those that have written into the folder of `folder`.
    """
    values = update.state_dict()
    if noise is not None:
        values |= {_NOISE + name: value for name, value in noise.state_dict().items()}
    if write:
        state = {name: value.detach().cpu().contiguous() for name, value in values.items()}
        write_aside(Path(folder) / STATE_NAME, lambda path: save_file(state, path, metadata={RUN: str(run)}))


def load_state(folder: str | os.PathLike[str], update: PosteriorUpdate, noise: NoiseVariance | None = None) -> None:
    """The inverse of `save_state`."""
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
    """Copy the precisions stored in `folder` into the live `posterior`; they must be over the same weights."""
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
    own = [value for *_, value in posterior.state()]
    if any(a.shape != b.shape for a, b in zip(own, parts, strict=True)):
        raise PosteriorCheckpointError(
            f"The posterior in {folder} has another rank than this trainer's; give the same PosteriorConfig(rank=...)."
        )
    for value, part in zip(own, parts, strict=True):
        value.copy_(part)
    return record


def record_callbacks(state: TrainerState, candidates: Iterable[Any]) -> None:
    """Put into `state` what callbacks that keep a state of their own need to resume."""
    latest: dict[str, list[Any]] = {}
    for callback in candidates:
        if isinstance(callback, ExportableState):
            latest.setdefault(type(callback).__name__, []).append(callback.state())
    for name, found in latest.items():
        state.stateful_callbacks[name] = found if len(found) > 1 else found[0]  # type: ignore[call-overload,index]
