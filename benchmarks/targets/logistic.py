"""Bayesian logistic regression on scikit-learn's breast-cancer data, with all data or with mini-batches."""

from functools import cache

import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor
from torch.nn.functional import logsigmoid

from benchmarks.targets.base import Function, Reference, Target
from benchmarks.targets.hmc import hmc
from benchmarks.targets.minibatch import log_posterior, minibatch_score

PRIOR_STD = 1.0
BATCH_SIZE = 64


@cache
def signed_design() -> Tensor:
    """(2y − 1) · [1, standardised features], [569, 31], float64: the likelihood is σ(row · weights)."""
    data = load_breast_cancer()
    features = torch.from_numpy(data.data)
    features = (features - features.mean(0)) / features.std(0)
    design = torch.cat([torch.ones(len(features), 1, dtype=torch.float64), features], dim=1)
    return design * (2.0 * torch.from_numpy(data.target) - 1)[:, None]


def log_likelihood(weights: Tensor, indices: Tensor) -> Tensor:
    return logsigmoid(weights @ signed_design()[indices].T).sum(1)


def log_prior(weights: Tensor) -> Tensor:
    return -0.5 * (weights / PRIOR_STD).square().sum(1)


def full_score(weights: Tensor) -> Tensor:
    design = signed_design()
    return torch.sigmoid(-weights @ design.T) @ design - weights / PRIOR_STD**2


@cache
def reference() -> Reference:
    """Draws by Hamiltonian Monte Carlo (`hmc`), preconditioned by the Laplace approximation."""
    design = signed_design()
    mode = torch.zeros(1, design.shape[1], dtype=torch.float64)
    for _ in range(30):  # Newton; the log posterior is concave, and from zero it converges without a line search
        probability = torch.sigmoid(mode @ design.T)[0]
        weight = probability * (1 - probability)
        precision = (design.T * weight) @ design + torch.eye(design.shape[1]).double() / PRIOR_STD**2
        mode = mode + torch.linalg.solve(precision, full_score(mode)[0])
    target = log_posterior(log_likelihood, log_prior, len(design))
    return Reference.from_draws(hmc(target, full_score, mode[0], torch.linalg.inv(precision)))


def logistic(minibatch: bool = False, seed: int = 0) -> Target:
    """P(malignant or benign | x) = σ(w₀ + w·x), features standardised, w ~ N(0, 1); D = 31, N = 569."""
    num_data, dim = signed_design().shape
    score: Function = full_score
    if minibatch:
        score = minibatch_score(log_likelihood, log_prior, num_data, BATCH_SIZE, seed)
    name = "logistic-minibatch" if minibatch else "logistic-full"
    log_prob = log_posterior(log_likelihood, log_prior, num_data)
    return Target(name, "data", dim, log_prob, score, reference(), noisy=minibatch)
