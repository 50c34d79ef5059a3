"""`hf_scorevi.metrics.msis` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

Msis = evaluate_module("msis", __name__)
