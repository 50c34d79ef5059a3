"""The result of a recalibration, as it is stored and applied."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from ..json_values import json_number, json_object, json_text, json_whole
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
        """Return the attributes as JSON values."""
        return asdict(self) | {"seen": self.seen.to_list()}

    @classmethod
    def from_dict(cls, values: Any) -> Recalibration:
        """
        Build a recalibration from the result of `to_dict`, or from JSON of any origin.

        Raises:
            ValueError: a field is missing or invalid.
        """
        optional = ("dataset_config", "split")
        required = [field.name for field in fields(cls) if field.name not in optional]
        values = json_object("a recalibration", values, required)
        return cls(
            temperature=json_number("temperature", values["temperature"], MIN_TEMPERATURE, MAX_TEMPERATURE),
            posterior_scale=json_number("posterior_scale", values["posterior_scale"], MIN_SCALE, MAX_SCALE),
            dataset=json_text("dataset", values["dataset"]),
            num_examples=json_whole("num_examples", values["num_examples"], 1),
            num_samples=json_whole("num_samples", values["num_samples"], 1),
            seed=json_whole("seed", values["seed"]),
            nll_before=json_number("nll_before", values["nll_before"], 0.0),
            nll_after=json_number("nll_after", values["nll_after"], 0.0),
            seen=Sketch.from_list(values["seen"]),
            **{name: json_text(name, values[name]) for name in optional if values.get(name) is not None},
        )
