"""Small Bayesian neural networks on synthetic data, with mini-batch scores; the log posterior of all data is known.

Their posteriors have as many modes as the hidden units have orders and signs, and no reference: what is reported is
the negative ELBO alone.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from benchmarks.targets.base import Target
from benchmarks.targets.minibatch import log_posterior, minibatch_score

HIDDEN = 8
NUM_DATA = 200
BATCH_SIZE = 20
NOISE_STD = 0.1  # of the regression's response, known


def network(weights: Tensor, inputs: Tensor) -> Tensor:
    """One tanh layer: weights [B, D], inputs [N, P] to outputs [B, N]; D = HIDDEN · (P + 2) + 1."""
    size = inputs.shape[1]
    first, bias, last, offset = weights.split([HIDDEN * size, HIDDEN, HIDDEN, 1], dim=1)
    hidden = torch.tanh(inputs @ first.reshape(-1, size, HIDDEN) + bias[:, None])
    return (hidden @ last[..., None]).squeeze(2) / math.sqrt(HIDDEN) + offset


def regression_data(seed: int = 123) -> tuple[Tensor, Tensor]:
    """Inputs [N, 1] in (−2, 2) with a gap around zero, responses sin(2x) + x/2 + noise [N]."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.5, 2.0, NUM_DATA) * rng.choice([-1.0, 1.0], NUM_DATA)
    y = np.sin(2 * x) + 0.5 * x + NOISE_STD * rng.standard_normal(NUM_DATA)
    return torch.from_numpy(x)[:, None], torch.from_numpy(y)


def classification_data(seed: int = 123) -> tuple[Tensor, Tensor]:
    """Two interleaved half circles with noise 0.25: inputs [N, 2], signs ±1 [N]."""
    rng = np.random.default_rng(seed)
    angle, label = rng.uniform(0.0, np.pi, NUM_DATA), rng.integers(0, 2, NUM_DATA)
    sign = 2.0 * label - 1
    x = np.stack([sign * np.cos(angle) + 0.5 - label, sign * np.sin(angle) - 0.25 * sign], axis=1)
    return torch.from_numpy(x + 0.25 * rng.standard_normal(x.shape)), torch.from_numpy(sign)


def log_prior(weights: Tensor) -> Tensor:
    """Weights ~ N(0, 1)."""
    return -0.5 * weights.square().sum(1)


def bnn(task: str, seed: int = 0) -> Target:
    """`task` is "regression" (D = 25) or "classification" (D = 33).

    At zero the hidden units are alike, a saddle point, so every method starts at one draw of N(0, 1), narrow.
    """
    inputs, response = regression_data() if task == "regression" else classification_data()

    def log_likelihood(weights: Tensor, indices: Tensor) -> Tensor:
        output, observed = network(weights, inputs[indices]), response[indices]
        if task == "regression":
            return -0.5 * ((output - observed) / NOISE_STD).square().sum(1)
        return logsigmoid(observed * output).sum(1)

    dim = HIDDEN * (inputs.shape[1] + 2) + 1
    start = torch.from_numpy(np.random.default_rng(123).standard_normal(dim))
    log_prob = log_posterior(log_likelihood, log_prior, NUM_DATA)
    score = minibatch_score(log_likelihood, log_prior, NUM_DATA, BATCH_SIZE, seed)
    return Target(f"bnn-{task}", "data", dim, log_prob, score, noisy=True, init_mean=start, init_std=0.1)
