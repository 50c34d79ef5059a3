"""`hf_scorevi.metrics.mixture_nll` as a module of `evaluate`."""

from hf_scorevi.metrics.evaluate_module import evaluate_module

MixtureNll = evaluate_module("mixture_nll", __name__)
