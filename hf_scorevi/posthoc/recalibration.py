"""What was fitted to held-out data after training, as it is stored and applied."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from .seen import Sketch
from .temperature import MAX_TEMPERATURE, MIN_TEMPERATURE

__all__ = ["MAX_SCALE", "MIN_SCALE", "Recalibration"]

MIN_SCALE, MAX_SCALE = 0.1, 10.0


@dataclass(frozen=True)
class Recalibration:
    """
    A temperature of the predictive and a factor for the posterior's standard deviations, and where they come from.

    Attributes:
        temperature: T of p^(1/T), normalised, for the averaged probabilities.
        posterior_scale: factor of every standard deviation of the posterior.
        dataset, dataset_config, split: the held-out data, as `Evaluation` names them.
        num_examples: of them.
        num_samples, seed: the draws that the predictive was averaged over.
        nll_before, nll_after: mean negative log-likelihood of these data, in nats.
        seen: a sketch of the examples, by which an evaluation on the same data is noticed.
    """

    temperature: float
    posterior_scale: float
    dataset: str
    num_examples: int
    num_samples: int
    seed: int
    nll_before: float
    nll_after: float
    seen: Sketch
    dataset_config: str | None = None
    split: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self) | {"seen": self.seen.to_list()}

    @classmethod
    def from_dict(cls, values: Any) -> Recalibration:
        """
        The inverse of `to_dict`, from anybody.

        Raises:
            ValueError: a field is missing, or no such value.
        """
        if not isinstance(values, dict):
            raise ValueError("a recalibration must be an object")
        try:
            return cls(
                temperature=_number(values, "temperature", MIN_TEMPERATURE, MAX_TEMPERATURE),
                posterior_scale=_number(values, "posterior_scale", MIN_SCALE, MAX_SCALE),
                dataset=_text(values, "dataset"),
                num_examples=_whole(values, "num_examples", 1),
                num_samples=_whole(values, "num_samples", 1),
                seed=_whole(values, "seed", 0),
                nll_before=_number(values, "nll_before", 0.0, math.inf),
                nll_after=_number(values, "nll_after", 0.0, math.inf),
                seen=Sketch.from_list(values["seen"]),
                dataset_config=None if values.get("dataset_config") is None else _text(values, "dataset_config"),
                split=None if values.get("split") is None else _text(values, "split"),
            )
        except KeyError as error:
            raise ValueError(f"{error} is missing") from error


# No message repeats a value: it may be as long as its author liked.
def _number(values: dict[str, Any], name: str, least: float, most: float) -> float:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{name} must be a number from {least:g} to {most:g}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite")
    return float(value)


def _whole(values: dict[str, Any], name: str, least: int) -> int:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise ValueError(f"{name} must be a whole number of at least {least}")
    return value


def _text(values: dict[str, Any], name: str) -> str:
    value = values[name]
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value.strip()) <= len(value) <= 200:
        raise ValueError(f"{name} must be a line of 1 to 200 characters")
    return value
