"""The Stan programs once more, line by line, for one point in the constrained space, with scipy and plain loops: an
oracle for the vectorised densities in benchmarks/targets/. Improper flat priors are left out, as in the programs."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import beta, cauchy, gamma, multivariate_normal, norm, t

Data = Mapping[str, Any]


def linear(y: np.ndarray, mean: np.ndarray, sigma: float) -> float:
    return float(norm.logpdf(y, mean, sigma).sum())


def eight_schools(d: Data, x: np.ndarray) -> float:
    theta_trans, mu, tau = x[:8], x[8], x[9]
    value = norm.logpdf(theta_trans).sum() + norm.logpdf(mu, 0, 5) + cauchy.logpdf(tau, 0, 5)
    return float(value + norm.logpdf(d["y"], theta_trans * tau + mu, d["sigma"]).sum())


def kidscore_momiq(d: Data, x: np.ndarray) -> float:
    return cauchy.logpdf(x[2], 0, 2.5) + linear(d["kid_score"], x[0] + x[1] * d["mom_iq"], x[2])


def kidscore_interaction(d: Data, x: np.ndarray) -> float:
    mean = x[0] + x[1] * d["mom_hs"] + x[2] * d["mom_iq"] + x[3] * d["mom_hs"] * d["mom_iq"]
    return cauchy.logpdf(x[4], 0, 2.5) + linear(d["kid_score"], mean, x[4])


def logearn(d: Data, x: np.ndarray) -> float:
    z = (d["height"] - d["height"].mean()) / d["height"].std(ddof=1)
    return linear(np.log(d["earn"]), x[0] + x[1] * z + x[2] * d["male"] + x[3] * z * d["male"], x[4])


def logmesquite(d: Data, x: np.ndarray) -> float:
    mean = x[0] + x[1] * np.log(d["diam1"]) + x[2] * np.log(d["diam2"]) + x[3] * np.log(d["canopy_height"])
    mean = mean + x[4] * np.log(d["total_height"]) + x[5] * np.log(d["density"]) + x[6] * d["group"]
    return linear(np.log(d["weight"]), mean, x[7])


def nes(d: Data, x: np.ndarray) -> float:
    age = d["age_discrete"]
    mean = x[0] + x[1] * d["real_ideo"] + x[2] * d["race_adj"] + x[3] * (age == 2) + x[4] * (age == 3)
    mean = mean + x[5] * (age == 4) + x[6] * d["educ1"] + x[7] * d["gender"] + x[8] * d["income"]
    return linear(d["partyid7"], mean, x[9])


def blr(d: Data, x: np.ndarray) -> float:
    return norm.logpdf(x[:5], 0, 10).sum() + norm.logpdf(x[5], 0, 10) + linear(d["y"], d["X"] @ x[:5], x[5])


def ar_k(d: Data, x: np.ndarray) -> float:
    y, order = d["y"], d["K"]
    value = norm.logpdf(x[: order + 1], 0, 10).sum() + cauchy.logpdf(x[-1], 0, 2.5)
    for now in range(order, d["T"]):
        mean = x[0] + sum(x[k] * y[now - k] for k in range(1, order + 1))
        value += norm.logpdf(y[now], mean, x[-1])
    return float(value)


def garch11(d: Data, x: np.ndarray) -> float:
    mu, alpha0, alpha1, beta1 = x
    value, sigma = norm.logpdf(d["y"][0], mu, d["sigma1"]), d["sigma1"]
    for now in range(1, d["T"]):
        sigma = math.sqrt(alpha0 + alpha1 * (d["y"][now - 1] - mu) ** 2 + beta1 * sigma**2)
        value += norm.logpdf(d["y"][now], mu, sigma)
    return float(value)


def gp_regr(d: Data, x: np.ndarray) -> float:
    rho, alpha, sigma = x
    distance = np.subtract.outer(d["x"], d["x"])
    covariance = alpha**2 * np.exp(-(distance**2) / (2 * rho**2)) + sigma * np.eye(len(d["x"]))
    prior = gamma.logpdf(rho, 25, scale=1 / 4) + norm.logpdf(alpha, 0, 2) + norm.logpdf(sigma, 0, 1)
    return float(prior + multivariate_normal.logpdf(d["y"], np.zeros(len(d["x"])), covariance))


def low_dim_gauss_mix(d: Data, x: np.ndarray) -> float:
    mu, sigma, theta = x[:2], x[2:4], x[4]
    density = theta * norm.pdf(d["y"], mu[0], sigma[0]) + (1 - theta) * norm.pdf(d["y"], mu[1], sigma[1])
    prior = norm.logpdf(sigma, 0, 2).sum() + norm.logpdf(mu, 0, 2).sum() + beta.logpdf(theta, 5, 5)
    return float(prior + np.log(density).sum())


def diamonds(d: Data, x: np.ndarray) -> float:
    b, intercept, sigma = x[:24], x[24], x[25]
    centred = d["X"][:, 1:] - d["X"][:, 1:].mean(0)
    prior = norm.logpdf(b).sum() + t.logpdf(intercept, 3, 8, 10) + t.logpdf(sigma, 3, 0, 10)
    return float(prior + linear(d["Y"], intercept + centred @ b, sigma))


DENSITIES = {
    "eight_schools-eight_schools_noncentered": eight_schools,
    "kidiq-kidscore_momiq": kidscore_momiq,
    "kidiq-kidscore_interaction": kidscore_interaction,
    "earnings-logearn_interaction_z": logearn,
    "mesquite-logmesquite": logmesquite,
    "nes2000-nes": nes,
    "sblrc-blr": blr,
    "arK-arK": ar_k,
    "garch-garch11": garch11,
    "gp_pois_regr-gp_regr": gp_regr,
    "low_dim_gauss_mix-low_dim_gauss_mix": low_dim_gauss_mix,
    "diamonds-diamonds": diamonds,
}
