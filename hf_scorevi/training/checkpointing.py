"""What a training checkpoint holds beyond the mean and its optimizer, and loading that is exact."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from ..errors import PosteriorCheckpointError
from ..hub import load_posterior, write_aside
from ..inference import PosteriorUpdate
from ..posterior import Posterior

__all__ = ["STATE_NAME", "load_posterior_into", "load_state", "load_weights", "save_state"]

STATE_NAME = "score_vi_state.safetensors"


def save_state(folder: str | os.PathLike[str], update: PosteriorUpdate) -> None:
    """Averages, counters and the prior, which a resumed run continues from."""
    state = {name: value.detach().cpu().contiguous() for name, value in update.state_dict().items()}
    write_aside(Path(folder) / STATE_NAME, lambda path: save_file(state, path))


def load_state(folder: str | os.PathLike[str], update: PosteriorUpdate) -> None:
    """The inverse of `save_state`."""
    path = Path(folder) / STATE_NAME
    try:
        update.load_state_dict(load_file(path))
    except (SafetensorError, OSError, KeyError) as error:
        raise PosteriorCheckpointError(
            f"{path} cannot be read ({error!r}), so training cannot be resumed exactly. Resume from an earlier "
            "checkpoint, or start anew from this one's weights."
        ) from error


@torch.no_grad()
def load_posterior_into(posterior: Posterior, folder: str | os.PathLike[str], model: nn.Module) -> None:
    """Copy the precisions stored in `folder` into the live `posterior`; they must be over the same weights."""
    stored, _ = load_posterior(folder, model)
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
    if any(own.shape != value.shape for (*_, own), (*_, value) in zip(posterior.state(), stored.state(), strict=True)):
        raise PosteriorCheckpointError(
            f"The posterior in {folder} has another rank than this trainer's; give the same PosteriorConfig(rank=...)."
        )
    for (_, _, own), (_, _, value) in zip(posterior.state(), stored.state(), strict=True):
        own.copy_(value)


def load_weights(model: nn.Module, folder: str | os.PathLike[str]) -> bool:
    """
    Load the mean into a plain transformers model, strictly; `False` for other models, which the Trainer loads right.

    The stock Trainer reads the file's keys as they are; where transformers renames weights on saving (ViT) it matches
    none of them, and warns. Going through `from_pretrained` undoes the renaming.
    """
    if not isinstance(model, PreTrainedModel):
        return False
    loaded = type(model).from_pretrained(folder, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    return True
