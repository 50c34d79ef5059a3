"""What to say of a training that has come to NaN or infinity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import NonFiniteLossError

__all__ = ["non_finite_error", "non_finite_inputs"]


def non_finite_inputs(inputs: Mapping[str, Any]) -> list[str]:
    """The names of the tensors that have values that are NaN or infinite."""
    return [name for name, v in inputs.items() if isinstance(v, Tensor) and not torch.isfinite(v).all()]


def non_finite_error(what: str, step: int, inputs: Mapping[str, Any] | None = None) -> NonFiniteLossError:
    """
    Args:
        what: has happened, as the beginning of a sentence.
        step: at which.
        inputs: of the pass, if it is known, to be looked through for the cause.
    """
    bad = [] if inputs is None else non_finite_inputs(inputs)
    remedy = "Lower learning_rate, or start narrower with PosteriorConfig(init_std=...)."
    if bad:
        remedy = (
            f"The batch has values in {' and '.join(bad)} that are NaN or infinite: fill them in, or drop these rows."
        )
    elif inputs is None:
        remedy = f"Look for bad values in the batch. {remedy}"
    return NonFiniteLossError(
        f"{what} at step {step}. Training stopped; the model holds the mean after the last good step. {remedy}"
    )
