"""The errors of a training that has come to NaN or infinity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import NonFiniteLossError
from ..posterior import local, named_parameters

__all__ = ["non_finite_error", "non_finite_inputs", "non_finite_weights", "require_finite_weights"]

_LOWER = "Lower learning_rate, or start narrower with PosteriorConfig(init_std=...)."


def non_finite_inputs(inputs: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors with values that are NaN or infinite."""
    return [name for name, v in inputs.items() if isinstance(v, Tensor) and not torch.isfinite(v).all()]


@torch.no_grad()
def non_finite_weights(model: nn.Module) -> list[str]:
    """Return the names of weights (of this process's parts) that have NaN or infinite values; reads all of them."""
    params = {name: local(p) for name, p in named_parameters(model).items() if p.is_floating_point() and p.numel()}
    values = [p for p in params.values() if p.numel()]
    if not values or any(p.is_meta for p in values):
        return []
    largest = torch.stack([norm.float().cpu() for norm in torch._foreach_norm(values, torch.inf)])
    if bool(largest.isfinite().all()):
        return []
    return [name for name, p in params.items() if not bool(p.isfinite().all())]


def require_finite_weights(model: nn.Module, step: int) -> None:
    """
    Check what training has left in the model.

    Raises:
        NonFiniteLossError: it has weights that are NaN or infinite.
    """
    if bad := non_finite_weights(model):
        raise NonFiniteLossError(
            f"At step {step} weights are NaN or infinite ({', '.join(bad[:3])}): this model is lost, and is not "
            f"saved. Go on from an earlier checkpoint, if there is one. {_LOWER}"
        )


def non_finite_error(
    what: str, step: int, inputs: Mapping[str, Any] | None = None, model: nn.Module | None = None
) -> NonFiniteLossError:
    """
    Return the error that names the cause and the remedy.

    Args:
        what: the event, as the beginning of a sentence.
        step: the optimizer step at which it happened.
        inputs: those of the pass, if it is known, to be looked through for the cause.
        model: the model, whose weights may have come to infinity before.
    """
    bad = [] if inputs is None else non_finite_inputs(inputs)
    remedy = _LOWER
    if bad:
        remedy = (
            f"The batch has values in {' and '.join(bad)} that are NaN or infinite: fill them in, or drop these rows."
        )
    elif inputs is None:
        remedy = f"Look for bad values in the batch. {remedy}"
    state = "the model holds the mean as the last step left it"
    if lost := non_finite_weights(model) if model is not None else []:
        state = (
            f"an earlier step has left weights that are NaN or infinite ({', '.join(lost[:3])}), so this model is "
            "lost: go on from an earlier checkpoint, if there is one"
        )
    return NonFiniteLossError(f"{what} at step {step}. Training stopped; {state}. {remedy}")
