"""How far a Gaussian q is from a target, with samples of its own: no method's own estimate is used."""

import math

import torch
from torch import Tensor

from benchmarks.targets import Target

NUM_SAMPLES = 4096
CHUNK = 512  # rows evaluated at once, for memory


def gaussian_kl(mean_p: Tensor, covariance_p: Tensor, mean_q: Tensor, covariance_q: Tensor) -> float:
    """KL(N(mean_p, covariance_p) ‖ N(mean_q, covariance_q)), in nats."""
    factor_p, factor_q = torch.linalg.cholesky(covariance_p), torch.linalg.cholesky(covariance_q)
    white = torch.linalg.solve_triangular(factor_q, factor_p, upper=False)
    shift = torch.linalg.solve_triangular(factor_q, (mean_p - mean_q)[:, None], upper=False)
    log_det = factor_q.diagonal().log().sum() - factor_p.diagonal().log().sum()
    return float(0.5 * (white.square().sum() + shift.square().sum() - len(mean_p)) + log_det)


def negative_elbo(target: Target, mean: Tensor, covariance: Tensor) -> tuple[float, float]:
    """E_q[log q − log p̃] over NUM_SAMPLES fixed, antithetic samples, and its standard error, in nats."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(NUM_SAMPLES // 2, len(mean), generator=generator, dtype=torch.float64)
    noise = torch.cat([half, -half])
    factor = torch.linalg.cholesky(covariance)
    log_q = -0.5 * noise.square().sum(1) - factor.diagonal().log().sum() - 0.5 * len(mean) * math.log(2 * math.pi)
    log_p = torch.cat([target.log_prob(rows) for rows in (mean + noise @ factor.T).split(CHUNK)])
    pairs = (log_q - log_p).reshape(2, -1).mean(0)
    return float(pairs.mean()), float(pairs.std() / len(pairs) ** 0.5)


def measure(target: Target, mean: Tensor, covariance: Tensor) -> dict[str, float]:
    """Every measure that the target allows.

    `negative_elbo` (and its standard error), `reverse_kl` = KL(q‖p) where the normaliser is known, `forward_kl` =
    KL(N(reference mean, reference covariance)‖q), which for reference draws is the cross-entropy −E log q minus a
    constant of the target; `mean_error` and `sd_error`: root mean squares over coordinates of (mean − reference) and
    (sd − reference), in units of the reference's sd; `worst_mean_error` and `worst_sd_error`: the largest.

    Raises:
        torch.linalg.LinAlgError: the covariance is not positive definite.
    """
    elbo, error = negative_elbo(target, mean, covariance)
    result = {"negative_elbo": elbo, "negative_elbo_standard_error": error}
    reference = target.reference
    if target.gaussian and reference is not None:
        result["reverse_kl"] = gaussian_kl(mean, covariance, reference.mean, reference.covariance)
    elif target.log_normaliser is not None:
        result["reverse_kl"] = elbo + target.log_normaliser
    if reference is not None:
        result["forward_kl"] = gaussian_kl(reference.mean, reference.covariance, mean, covariance)
        std = reference.covariance.diagonal().sqrt()
        mean_error, sd_error = (mean - reference.mean) / std, covariance.diagonal().sqrt() / std - 1
        result["mean_error"] = float(mean_error.square().mean().sqrt())
        result["sd_error"] = float(sd_error.square().mean().sqrt())
        result["worst_mean_error"] = float(mean_error.abs().max())
        result["worst_sd_error"] = float(sd_error.abs().max())
    return result
