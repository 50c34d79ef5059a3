"""What is fitted after training, on data held out: a temperature, and a factor for the posterior's width."""

from .temperature import apply_temperature, fit_temperature

__all__ = ["apply_temperature", "fit_temperature"]
