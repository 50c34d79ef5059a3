"""`hf_scorevi.metrics.crps_gaussian_mixture` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

CrpsGaussianMixture = evaluate_module("crps_gaussian_mixture", __name__)
