"""posteriordb's linear regressions; functions have the Stan programs' names. Parameters: coefficients, sigma > 0."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.targets.stan_model import StanModel, cauchy, normal, student_t
from benchmarks.targets.transforms import Positive, Real, Stack

Data = Mapping[str, Any]
Prior = Callable[[Tensor, Tensor], Tensor]  # coefficients [B, K] and sigma [B] to [B]


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def regression(design: Tensor, response: Tensor, log_prior: Prior) -> StanModel:
    """response [N] ~ normal(design [N, K] · coefficients, sigma).

    Only QR factors of the data are kept, ‖y − Xb‖² = ‖Qᵀy − Rb‖² + const: an evaluation costs K² instead of NK.
    """
    num_data, num_coefficients = design.shape
    q, r = torch.linalg.qr(design)
    projected = q.T @ response
    residual = (response - q @ projected).square().sum()

    def log_density(x: Tensor) -> Tensor:
        coefficients, sigma = x[:, :-1], x[:, -1]
        squares = (projected - coefficients @ r.T).square().sum(1) + residual
        return log_prior(coefficients, sigma) - num_data * sigma.log() - 0.5 * squares / sigma.square()

    return StanModel(Stack([(num_coefficients, Real()), (1, Positive())]), log_density)


def columns(*values: Tensor) -> Tensor:
    """A design matrix with an intercept in front."""
    return torch.stack([torch.ones_like(values[0]), *values], dim=1)


def flat(coefficients: Tensor, sigma: Tensor) -> Tensor:
    return torch.zeros_like(sigma)


def half_cauchy_sigma(coefficients: Tensor, sigma: Tensor) -> Tensor:
    return cauchy(sigma, 2.5)


def kidscore_momiq(data: Data) -> StanModel:
    return regression(columns(tensor(data["mom_iq"])), tensor(data["kid_score"]), half_cauchy_sigma)


def kidscore_interaction(data: Data) -> StanModel:
    high_school, iq = tensor(data["mom_hs"]), tensor(data["mom_iq"])
    return regression(columns(high_school, iq, high_school * iq), tensor(data["kid_score"]), half_cauchy_sigma)


def logearn_interaction_z(data: Data) -> StanModel:
    height, male = tensor(data["height"]), tensor(data["male"])
    z_height = (height - height.mean()) / height.std()
    return regression(columns(z_height, male, z_height * male), tensor(data["earn"]).log(), flat)


def logmesquite(data: Data) -> StanModel:
    logs = [tensor(data[key]).log() for key in ("diam1", "diam2", "canopy_height", "total_height", "density")]
    return regression(columns(*logs, tensor(data["group"])), tensor(data["weight"]).log(), flat)


def nes(data: Data) -> StanModel:
    age = tensor(data["age_discrete"])
    ages = [(age == level).double() for level in (2, 3, 4)]
    before = [tensor(data[key]) for key in ("real_ideo", "race_adj")]
    after = [tensor(data[key]) for key in ("educ1", "gender", "income")]
    return regression(columns(*before, *ages, *after), tensor(data["partyid7"]), flat)


def blr(data: Data) -> StanModel:
    def log_prior(coefficients: Tensor, sigma: Tensor) -> Tensor:
        return normal(coefficients, 10.0).sum(1) + normal(sigma, 10.0)

    return regression(tensor(data["X"]), tensor(data["y"]), log_prior)


def ar_k(data: Data) -> StanModel:
    """y_t on an intercept and its last K values, t = K+1 … T."""
    order, series = data["K"], tensor(data["y"])
    lags = [series[order - k : len(series) - k] for k in range(1, order + 1)]

    def log_prior(coefficients: Tensor, sigma: Tensor) -> Tensor:
        return normal(coefficients, 10.0).sum(1) + cauchy(sigma, 2.5)

    return regression(columns(*lags), series[order:], log_prior)


def diamonds(data: Data) -> StanModel:
    """Coefficients b[24] of centred predictors, then the intercept, as the program orders them."""
    predictors = tensor(data["X"])[:, 1:]
    centred = predictors - predictors.mean(0)
    design = torch.cat([centred, torch.ones(len(centred), 1, dtype=torch.float64)], dim=1)

    def log_prior(coefficients: Tensor, sigma: Tensor) -> Tensor:
        slopes, intercept = coefficients[:, :-1], coefficients[:, -1]
        return (
            normal(slopes, 1.0).sum(1) + student_t(intercept, 3.0, scale=10.0, loc=8.0) + student_t(sigma, 3.0, 10.0)
        )

    return regression(design, tensor(data["Y"]), log_prior)
