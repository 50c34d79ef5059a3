"""The densities of transformers' forecasters, computed by SciPy from what their heads give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor


def outputs_and_parameters(model: Any, batch: Mapping[str, Tensor]) -> tuple[Any, list[np.ndarray]]:
    """The outputs, and what the head gave for the distribution before the window's scale came to it."""
    module = model.parameter_projection if hasattr(model, "parameter_projection") else model.head
    found = []
    hook = module.register_forward_hook(lambda module, inputs, output: found.append([part.clone() for part in output]))
    with torch.no_grad():
        outputs = model.eval()(**batch)
    hook.remove()
    (parameters,) = found
    return outputs, [part.double().numpy() for part in parameters]


def log_densities(
    kind: str, parameters: Sequence[np.ndarray], target: np.ndarray, loc: Any = 0.0, scale: Any = 1.0
) -> np.ndarray:
    """Of each number."""
    if kind == "negative_binomial":  # SciPy counts failures by the probability of a success
        return stats.nbinom.logpmf(target, parameters[0], 1 / (1 + scale * np.exp(parameters[1])))
    centre, width = parameters[-2] * scale + loc, parameters[-1] * scale
    if kind == "normal":
        return stats.norm.logpdf(target, centre, width)
    return stats.t.logpdf(target, parameters[0], centre, width)
