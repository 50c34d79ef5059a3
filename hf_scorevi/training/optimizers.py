"""Optimizers of Bayesian weights: they move all of them, and let none decay, which would be a second prior."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from ..errors import InputError

__all__ = ["require_weights", "spare"]

logger = logging.get_logger(__name__)

# Options of a group that draw its weights to zero; the second is that of torch's ASGD.
_DECAYS = ("weight_decay", "lambd")


def require_weights(optimizer: torch.optim.Optimizer, bayesian: Mapping[str, Tensor]) -> None:
    """
    Warn of Bayesian weights whose mean the optimizer does not move.

    Raises:
        InputError: it moves none; it belongs to another model.
    """
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    missing = [name for name, p in bayesian.items() if id(p) not in held]
    if len(missing) == len(bayesian):
        raise InputError(
            f"The {type(optimizer).__name__} given has none of the model's {len(bayesian)} Bayesian weights: it was "
            "made for another model, or before this one was changed. Make it from trainer.model.parameters()."
        )
    if missing:
        logger.warning(
            f"{len(missing)} Bayesian weights are not in the optimizer given, e.g. {missing[0]}: their means stay "
            "where they are. Add them to it, or leave them out of the posterior with PosteriorConfig(exclude=...)."
        )


def spare(optimizer: torch.optim.Optimizer, bayesian: Iterable[Tensor], scheduled: bool) -> None:
    """
    Take the decay off the Bayesian weights, with a warning; others keep it, in a group apart.

    Args:
        scheduled: a schedule goes by the groups as they are, so that none can be added: a group that has both kinds
            of weights loses its decay as a whole.
    """
    chosen = {id(p) for p in bayesian}
    groups: list[dict[str, Any]] = []
    removed: dict[str, Any] = {}
    mixed = []
    for group in optimizer.param_groups:
        decays = {name: group[name] for name in _DECAYS if name in group and bool(group[name])}
        spared = [id(p) in chosen for p in group["params"]]
        if not decays or not any(spared):
            groups.append(group)
            continue
        removed |= decays
        if all(spared):
            groups.append(group | dict.fromkeys(decays, 0.0))
        else:
            mixed.append(group)
            rest = [not bayesian for bayesian in spared]
            groups += [_part(group, rest), _part(group, spared) | dict.fromkeys(decays, 0.0)]
    if not removed:
        return
    options = ", ".join(f"{name}={float(value):g}" for name, value in removed.items())
    message = (
        f"{options} of {type(optimizer).__name__} is taken off the Bayesian weights: the prior does its work there "
        "(PosteriorConfig(prior_std=...))."
    )
    divided = not (mixed and scheduled)
    if divided:
        optimizer.param_groups[:] = groups
        # An optimizer of several makes this list anew whenever it is asked.
        divided = [id(group) for group in optimizer.param_groups] == [id(group) for group in groups]
    if not divided:
        for group in optimizer.param_groups:
            if any(id(p) in chosen for p in group["params"]):
                group.update({name: 0.0 for name in _DECAYS if name in group})
        if mixed:
            message += " Other weights in the same groups lose it too: give those a group of their own."
    logger.warning(message)


def _part(group: dict[str, Any], chosen: list[bool]) -> dict[str, Any]:
    """Return a group of the same options with the chosen weights (and their names, if they have any)."""
    lists = {
        name: [value for value, kept in zip(group[name], chosen, strict=True) if kept]
        for name in ("params", "param_names")
        if name in group
    }
    return group | lists
