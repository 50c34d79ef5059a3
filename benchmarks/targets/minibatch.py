"""Posteriors of data sets, with scores from mini-batches drawn anew, without replacement, at every evaluation."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.targets.base import Function, autograd_score

LogLikelihood = Callable[[Tensor, Tensor], Tensor]  # weights [B, D], data indices [n] to the indices' sum [B]


def log_posterior(log_likelihood: LogLikelihood, log_prior: Function, num_data: int) -> Function:
    """Log prior plus log likelihood of all `num_data` examples, up to a constant."""
    everything = torch.arange(num_data)
    return lambda weights: log_prior(weights) + log_likelihood(weights, everything)


def minibatch_score(
    log_likelihood: LogLikelihood, log_prior: Function, num_data: int, batch_size: int, seed: int
) -> Function:
    """An unbiased score: the mini-batch's, times num_data / batch_size, plus the prior's.

    One mini-batch serves all rows of a call, as it does in a training step.
    """
    generator = torch.Generator().manual_seed(seed)

    def score(weights: Tensor) -> Tensor:
        indices = torch.randperm(num_data, generator=generator)[:batch_size]
        scale = num_data / batch_size
        return autograd_score(lambda w: log_prior(w) + scale * log_likelihood(w, indices))(weights)

    return score
