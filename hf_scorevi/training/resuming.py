"""Checks that a run can go on from a checkpoint: its state is there, and it infers the same posterior."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from transformers import TrainerState
from transformers.trainer import OPTIMIZER_NAME, OPTIMIZER_NAME_BIN, SCHEDULER_NAME, TRAINER_STATE_NAME

from ..errors import PosteriorCheckpointError
from ..hub import StoredPosterior, read_checkpoint
from .checkpoint_folders import STATE_NAME

__all__ = ["holds_best", "require_same_inference", "require_state"]

# Where the optimizer's state is.
_WITHOUT_FSDP = "without FSDP"
_OPTIMIZERS = {
    _WITHOUT_FSDP: OPTIMIZER_NAME,
    "under FSDP with FULL_STATE_DICT": OPTIMIZER_NAME_BIN,
    "under FSDP with SHARDED_STATE_DICT": "optimizer_0",
}
# Fields of a PosteriorConfig that say what is being inferred; its target, family and rank are seen by their tensors,
# temperature and num_data compared as resolved.
_POSTERIOR = ("prior_mean", "prior_std", "noise_variance", "init_std")
# Arguments that say what is minimised. Others of the method are its cost, noise and step sizes, as a batch size is.
_METHOD = ("objective", "update", "proximal_weight", "proximal_growth", "proximal", "score_norm")


def require_state(folder: str | os.PathLike[str], fsdp: str | None = None) -> None:
    """
    Check that `folder` has the state of a training, in the form that this run reads.

    Args:
        fsdp: the `state_dict_type` of this run, if it is under FSDP.

    Raises:
        PosteriorCheckpointError: it has not; the message names what is missing, and why that may be.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PosteriorCheckpointError(f"There is no checkpoint {folder} to resume from.")
    for name in (TRAINER_STATE_NAME, STATE_NAME):
        if not (folder / name).is_file():
            raise PosteriorCheckpointError(
                f"{folder} has no {name}, so training cannot be resumed from it: it was saved with "
                "save_only_model=True, by save_model, or by another Trainer. Resume from a checkpoint with the state "
                "of its training, or start anew from this one's weights: trainer.load_model(folder), then train()."
            )
    form = _WITHOUT_FSDP if fsdp is None else f"under FSDP with {fsdp}"
    if not (folder / _OPTIMIZERS[form]).exists():  # which the Trainer would begin anew, or fail over
        others = [other for other, name in _OPTIMIZERS.items() if (folder / name).exists()]
        raise PosteriorCheckpointError(
            f"The optimizer of {folder} was stored {others[0] if others else 'nowhere'}, and this run, {form}, cannot "
            "go on from it. Resume as the checkpoint was written, or start anew from its weights."
        )
    if not (folder / SCHEDULER_NAME).is_file():
        raise PosteriorCheckpointError(f"{folder} has no {SCHEDULER_NAME}; resume from another checkpoint.")


def require_same_inference(
    folder: str | os.PathLike[str], current: StoredPosterior, keys: list[str]
) -> tuple[dict[str, Any], int | None]:
    """
    Check that the posterior in `folder` is one that this run would have learned.

    Args:
        current: the record that this run would write.
        keys: names of the Bayesian weights in their file.

    Returns:
        The record of the run that wrote it (`training`), and its seed, if it is known.

    Raises:
        PosteriorCheckpointError: it is damaged, or differs in what is inferred; the message names each difference.
    """
    contents = read_checkpoint(folder)
    posterior, method = _mapping(contents, "posterior"), _mapping(contents, "method")
    weights = contents.get("weights")
    if isinstance(weights, list) and set(map(str, weights)) != set(keys):
        difference = sorted(set(map(str, weights)) ^ set(keys))
        raise PosteriorCheckpointError(
            f"The posterior in {folder} is over other weights than this trainer's: {difference[:3]} differ. "
            "Give the same PosteriorConfig(target=..., exclude=...) as the run that wrote it."
        )
    config = current.config.to_dict()
    if posterior.get("family", config["family"]) != config["family"]:
        raise PosteriorCheckpointError(
            f"The posterior in {folder} is {posterior['family']}, this trainer's is {config['family']}. Give the same "
            "PosteriorConfig(family=...) as the run that wrote it."
        )
    if config["family"] == "low_rank" and posterior.get("rank", config["rank"]) != config["rank"]:
        raise PosteriorCheckpointError(
            f"The posterior in {folder} has another rank than this trainer's, {posterior['rank']} instead of "
            f"{config['rank']}; give the same PosteriorConfig(rank=...)."
        )
    likelihood = _mapping(contents, "likelihood").get("kind", current.likelihood["kind"])
    if likelihood != current.likelihood["kind"]:
        raise PosteriorCheckpointError(
            f"The likelihood of {folder} is of the kind {likelihood!r}, that of this model's loss is "
            f"{current.likelihood['kind']!r}. Give the model and the PosteriorConfig of the run that wrote it."
        )
    resolved = {"num_data": current.num_data, "temperature": current.temperature}
    chosen = _differences(posterior, {name: config[name] for name in _POSTERIOR})
    chosen |= _differences(contents, resolved)
    arguments = _differences(method, {name: current.method[name] for name in _METHOD})
    if chosen or arguments:
        named = [f"{name} is {old!r} there, {new!r} here" for name, (old, new) in (chosen | arguments).items()]
        remedies = [
            f"{cls}({', '.join(f'{name}={old!r}' for name, (old, _) in differing.items())})"
            for cls, differing in (("PosteriorConfig", chosen), ("ScoreVITrainingArguments", arguments))
            if differing
        ]
        raise PosteriorCheckpointError(
            f"{folder} is of a run that infers something else: {'; '.join(named)}. A posterior is learned under one "
            f"prior, likelihood and objective. Give {' and '.join(remedies)} to go on, or start anew from its weights."
        )
    return _mapping(contents, "training"), method.get("seed")


def holds_best(folder: str | os.PathLike[str], state: TrainerState) -> bool:
    """Return whether `folder` is the checkpoint that `state` knows as the best, not another run's of that name."""
    try:
        stored = json.loads((Path(folder) / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
        return all(stored[name] == getattr(state, name) for name in ("best_metric", "best_global_step"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _differences(stored: dict[str, Any], current: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return old and new values that differ, by name; what an earlier version did not record is not compared."""
    differing = {}
    for name, new in current.items():
        old = stored.get(name, new)
        if name == "noise_variance" and old is None:  # up to format 1.2
            old = "auto"
        numbers = all(isinstance(value, int | float) for value in (old, new))
        if not (math.isclose(old, new, rel_tol=1e-9) if numbers else old == new):
            differing[name] = (old, new)
    return differing


def _mapping(contents: dict[str, Any], name: str) -> dict[str, Any]:
    value = contents.get(name)
    return value if isinstance(value, dict) else {}
