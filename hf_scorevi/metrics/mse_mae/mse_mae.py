"""`hf_scorevi.metrics.mse_mae` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

MseMae = evaluate_module("mse_mae", __name__)
