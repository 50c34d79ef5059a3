"""Log densities of a forecaster whose head models a distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers.time_series_utils import NegativeBinomialOutput

__all__ = ["expectation_and_log_density"]


def expectation_and_log_density(model: nn.Module, outputs: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """
    Of the distribution that a transformers forecaster has just computed its loss with.

    The autoregressive ones (TimeSeriesTransformer, Informer, Autoformer) have seen the steps before each when they
    predict it: theirs are densities and expectations of one step ahead.

    Args:
        outputs: of its forward.
        inputs: of the same, with `future_values`.

    Returns:
        The expectation, (B, H, C) or (B, H), and the log density of each term of the likelihood, (B, n): of all
        channels of a step together, or of a single number. Unobserved ones have the mean of the others.
    """
    parameters = getattr(outputs, "params", None)
    head: Any = model.distribution_output
    # The scale of a negative binomial was put into its parameters, in place, by the forward.
    counts = isinstance(head, NegativeBinomialOutput)
    affine = {} if counts else {"loc": outputs.loc, "scale": outputs.scale}
    distribution = head.distribution(outputs.prediction_outputs if parameters is None else parameters, **affine)
    target = inputs["future_values"]
    chosen = getattr(model, "prediction_channel_indices", None)
    log_density = distribution.log_prob(target if chosen is None else target[..., chosen]).flatten(1)
    mask = inputs.get("future_observed_mask")
    if mask is not None:
        mask = (mask if mask.dim() == 2 else mask.amin(-1)).bool()
        log_density = log_density.masked_fill(~mask, 0)
        mean = log_density.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)
        log_density = log_density.where(mask, mean)
    return distribution.mean, log_density
