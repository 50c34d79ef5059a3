"""Recalibration after training, by held-out data: a temperature, and a factor for the posterior's width."""

from .recalibration import Recalibration
from .scale import fit_scale
from .seen import Sketch, example_hashes
from .temperature import apply_temperature, fit_temperature

__all__ = ["Recalibration", "Sketch", "apply_temperature", "example_hashes", "fit_scale", "fit_temperature"]
