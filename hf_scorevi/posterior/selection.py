"""Which weights are Bayesian."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from .config import Target

__all__ = ["select_parameters"]


def select_parameters(
    model: nn.Module, target: Target = "trainable", exclude: Sequence[str] | None = None
) -> dict[str, nn.Parameter]:
    """
    Return the weights of `model` that get a posterior, by name, in the model's order; a tied weight once.

    A pattern chooses a parameter if it equals, or globs, the parameter's name or the name of a module that holds it,
    whole or from a dot on: `"classifier"`, `"vit.layers.11.*"`, `"q_proj"`, `"*.bias"`.

    Raises:
        ValueError: nothing is trainable, a pattern matches nothing, or all that it matches is frozen.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad and p.is_floating_point()}
    if not trainable:
        raise ValueError(
            f"{type(model).__name__} has no parameters that require grad, so there is nothing to be Bayesian about. "
            "Unfreeze some weights, or load a PEFT adapter with is_trainable=True."
        )
    if target == "trainable":
        chosen = trainable
    elif callable(target):
        chosen = {name: p for name, p in trainable.items() if target(name, p)}
        if not chosen:
            raise ValueError(f"The callable target chose none of the {len(trainable)} trainable parameters.")
    else:
        matched = _matched(model, [target] if isinstance(target, str) else target, "target", set(trainable))
        chosen = {name: p for name, p in trainable.items() if name in matched}
    if exclude:
        dropped = _matched(model, [exclude] if isinstance(exclude, str) else exclude, "exclude", None)
        chosen = {name: p for name, p in chosen.items() if name not in dropped}
        if not chosen:
            raise ValueError(f"exclude={list(exclude)!r} leaves no Bayesian weights of those that target chose.")
    return chosen


def _matched(model: nn.Module, patterns: Sequence[str], field: str, trainable: set[str] | None) -> set[str]:
    """Return the names of the parameters that any pattern matches; one that matches nothing usable is an error."""
    # A tied weight has several names; any of them chooses it, under the first.
    first = {id(p): name for name, p in model.named_parameters()}
    names = {name: first[id(p)] for name, p in model.named_parameters(remove_duplicate=False)}
    chosen: set[str] = set()
    for pattern in patterns:
        hits = {first_name for name, first_name in names.items() if _matches(name, pattern)}
        if not hits:
            modules = {name for name, _ in model.named_modules() if name}
            near = difflib.get_close_matches(pattern, sorted(modules | set(names)), n=3, cutoff=0.4)
            hint = f" Close names: {', '.join(near)}." if near else ""
            raise ValueError(f"{field} pattern {pattern!r} matches no parameter of {type(model).__name__}.{hint}")
        if trainable is not None and not hits & trainable:
            raise ValueError(
                f"{field} pattern {pattern!r} matches only frozen weights; set requires_grad on them first."
            )
        chosen |= hits
    if not chosen:
        raise ValueError(f"{field} is an empty list; leave it out, or name some weights.")
    return chosen


def _matches(name: str, pattern: str) -> bool:
    """Return whether `pattern` globs the name of the parameter or of a module around it, whole or from a dot on."""
    parts = name.split(".")
    return any(
        fnmatchcase(".".join(parts[start:end]), pattern) for end in range(1, len(parts) + 1) for start in range(end)
    )
