"""`hf_scorevi.metrics.weighted_quantile_loss` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

WeightedQuantileLoss = evaluate_module("weighted_quantile_loss", __name__)
