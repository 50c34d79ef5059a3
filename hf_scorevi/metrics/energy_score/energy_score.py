"""`hf_scorevi.metrics.energy_score` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

EnergyScore = evaluate_module("energy_score", __name__)
