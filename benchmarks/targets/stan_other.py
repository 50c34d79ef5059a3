"""posteriordb's other models: a hierarchy, a volatility model, a Gaussian process, a mixture."""

import torch
from torch import Tensor

from benchmarks.targets.stan_model import StanModel, cauchy, normal
from benchmarks.targets.stan_regression import Data, tensor
from benchmarks.targets.transforms import Interval, Ordered, Positive, Real, Stack


def eight_schools_noncentered(data: Data) -> StanModel:
    """theta_trans[J], mu, tau > 0; the draws hold theta = mu + tau · theta_trans instead of theta_trans."""
    effect, std, schools = tensor(data["y"]), tensor(data["sigma"]), data["J"]

    def log_density(x: Tensor) -> Tensor:
        theta_trans, mu, tau = x[:, :schools], x[:, schools], x[:, schools + 1]
        theta = mu[:, None] + tau[:, None] * theta_trans
        likelihood = normal((effect - theta) / std, 1.0).sum(1)
        return likelihood + normal(theta_trans, 1.0).sum(1) + normal(mu, 5.0) + cauchy(tau, 5.0)

    def from_draws(draws: Tensor) -> Tensor:
        theta, mu, tau = draws.split([schools, 1, 1], dim=1)
        return torch.cat([(theta - mu) / tau, mu, tau], dim=1)

    return StanModel(Stack([(schools + 1, Real()), (1, Positive())]), log_density, from_draws)


def linear_recursion(inputs: Tensor, decay: Tensor) -> Tensor:
    """s_t = inputs_t + decay · s_{t−1} along the last axis, in log₂ T vectorised steps; inputs [B, T], decay [B]."""
    sums, power, step = inputs, decay[:, None], 1
    while step < inputs.shape[1]:  # sums_t holds the last `step` terms; add the `step` before them
        sums = torch.cat([sums[:, :step], sums[:, step:] + power * sums[:, :-step]], dim=1)
        power, step = power.square(), 2 * step
    return sums


def garch11(data: Data) -> StanModel:
    """mu, alpha0 > 0, alpha1 in (0, 1), beta1 in (0, 1 − alpha1); flat priors."""
    series, first_std = tensor(data["y"]), data["sigma1"]

    def log_density(x: Tensor) -> Tensor:
        mu, alpha0, alpha1, beta1 = x.unbind(1)
        squares = (series - mu[:, None]).square()
        rest = alpha0[:, None] + alpha1[:, None] * squares[:, :-1]
        variance = linear_recursion(torch.cat([torch.full_like(rest[:, :1], first_std**2), rest], dim=1), beta1)
        return -0.5 * (variance.log() + squares / variance).sum(1)

    stationary = Interval(upper=lambda before: 1 - before[:, -1:])
    return StanModel(Stack([(1, Real()), (1, Positive()), (1, Interval()), (1, stationary)]), log_density)


def gp_regr(data: Data) -> StanModel:
    """Length scale rho, marginal deviation alpha, noise *variance* sigma (as the program has it), all positive."""
    inputs, response = tensor(data["x"]), tensor(data["y"])
    squared_distance = (inputs[:, None] - inputs).square()
    identity = torch.eye(len(inputs), dtype=torch.float64)

    def log_density(x: Tensor) -> Tensor:
        rho, alpha, sigma = (column[:, None, None] for column in x.unbind(1))
        covariance = alpha.square() * torch.exp(-0.5 * squared_distance / rho.square()) + sigma * identity
        factor = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(factor, response[:, None].expand(len(x), -1, 1), upper=False)
        likelihood = -0.5 * white.square().sum((1, 2)) - factor.diagonal(dim1=1, dim2=2).log().sum(1)
        rho, alpha, sigma = x.unbind(1)
        prior = 24 * rho.log() - 4 * rho + normal(alpha, 2.0) + normal(sigma, 1.0)  # rho ~ gamma(25, 4)
        return likelihood + prior

    return StanModel(Stack([(3, Positive())]), log_density)


def low_dim_gauss_mix(data: Data) -> StanModel:
    """Ordered means mu[2], deviations sigma[2] > 0, weight theta in (0, 1) of the first component."""
    observed = tensor(data["y"])

    def log_density(x: Tensor) -> Tensor:
        mu, sigma, theta = x[:, 0:2], x[:, 2:4], x[:, 4]
        log_weights = torch.stack([theta.log(), torch.log1p(-theta)], dim=1) - sigma.log()
        standardised = (observed - mu[..., None]) / sigma[..., None]
        likelihood = torch.logsumexp(log_weights[..., None] - 0.5 * standardised.square(), 1).sum(1)
        prior = normal(sigma, 2.0).sum(1) + normal(mu, 2.0).sum(1) + 4 * (theta.log() + torch.log1p(-theta))
        return likelihood + prior  # theta ~ beta(5, 5)

    return StanModel(Stack([(2, Ordered()), (2, Positive()), (1, Interval())]), log_density)
