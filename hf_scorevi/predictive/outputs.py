"""The objects that hold predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["ForecastOutput", "PredictiveOutput", "RegressionOutput", "SpanOutput"]

_Output = TypeVar("_Output", bound="_Tensors")


class _Tensors:
    def to(self: _Output, device: torch.device | str) -> _Output:
        """Return a copy on another device."""
        return _mapped([self], lambda values, _: values[0].to(device))

    def examples_first(self) -> dict[str, Tensor]:
        """Return the tensors by name, with the examples as their first dimension, as a Trainer gathers them."""
        found = {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]
        return {k: v.transpose(0, 1) if k in _BY_DRAW else v for k, v in found.items() if isinstance(v, Tensor)}

    def replaced(self: _Output, tensors: Mapping[str, Tensor]) -> _Output:
        """Return a copy with other tensors in the form of `examples_first`, perhaps of more examples."""
        changed = {k: v.transpose(0, 1) if k in _BY_DRAW else v for k, v in tensors.items()}
        return replace(self, **changed)  # type: ignore[type-var]

    @classmethod
    def cat(cls: type[_Output], outputs: Sequence[_Output]) -> _Output:
        """Join the outputs of several batches; texts of different lengths are padded with NaN."""
        return _mapped(outputs, lambda values, name: _joined(values, dim=int(name in _BY_DRAW)))


_BY_DRAW = {"samples", "logits", "quantiles", "paths"}  # fields whose second dimension is the examples


@dataclass
class PredictiveOutput(_Tensors):
    """
    The posterior predictive of a classifier. B examples, K classes, S draws; uncertainties in nats.

    Of a model with several independent labels an example, K counts these, and uncertainties are each label's, (B, K).
    Of one that predicts the class of each token or pixel, tables have the shape of its logits, (B, T, K) or
    (B, K, H, W), and uncertainties that without the classes.

    Attributes:
        log_probs: logarithms of the probabilities averaged over draws, and recalibrated if the model is, (B, K). They
            keep what float32 rounds to zero.
        entropy: of the averaged probabilities, before recalibration: total uncertainty, (B,).
        expected_entropy: entropy averaged over draws: the part that remains if the weights are known, (B,).
        mutual_information: entropy − expected_entropy: the part that comes from the weights' uncertainty, (B,).
        num_samples: S.
        logit_std: standard deviation over draws of each logit, zero for a single draw, (B, K), if it was kept.
        samples: probabilities of each draw, (S, B, K), if they were asked for.
        logits: logits of each draw, (S, B, K), if they were asked for.
    """

    log_probs: Tensor
    entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor
    num_samples: int
    logit_std: Tensor | None = None
    samples: Tensor | None = None
    logits: Tensor | None = None

    @property
    def probs(self) -> Tensor:
        """The probabilities averaged over draws (recalibrated if the model is), (B, K)."""
        return self.log_probs.exp()


@dataclass
class SpanOutput(_Tensors):
    """
    The posterior predictive of a span in a text: of its start and its end, each one of T positions.

    Attributes:
        start, end: of each, with tables (B, T).
    """

    start: PredictiveOutput
    end: PredictiveOutput

    @property
    def num_samples(self) -> int:
        """Draws, S."""
        return self.start.num_samples

    def examples_first(self) -> dict[str, Tensor]:
        """Return the tensors of start and end by name."""
        return {
            f"{end}.{name}": value
            for end in ("start", "end")
            for name, value in getattr(self, end).examples_first().items()
        }

    def replaced(self, tensors: Mapping[str, Tensor]) -> SpanOutput:
        """Return a copy with other tensors."""
        ends = {}
        for end in ("start", "end"):
            own = {name.split(".")[1]: value for name, value in tensors.items() if name.startswith(f"{end}.")}
            ends[end] = getattr(self, end).replaced(own)
        return SpanOutput(**ends)


@dataclass
class RegressionOutput(_Tensors):
    """
    The posterior predictive of a regression: a mixture of one Gaussian a draw. B examples, D targets, S draws.

    Attributes:
        mean: of the predictive, (B, D).
        epistemic_variance: of the draws' outputs, over S − 1: what the weights' uncertainty contributes, (B, D).
        aleatoric_variance: the noise's, (B, D).
        quantiles: of the predictive, noise included, at `quantile_levels`, (Q, B, D).
        quantile_levels: in (0, 1).
        num_samples: S.
        samples: the draws' outputs, without noise, (S, B, D), if they were asked for.
    """

    mean: Tensor
    epistemic_variance: Tensor
    aleatoric_variance: Tensor
    quantiles: Tensor
    quantile_levels: tuple[float, ...]
    num_samples: int
    samples: Tensor | None = None

    @property
    def variance(self) -> Tensor:
        """The variance of the predictive: the sum of both parts, (B, D)."""
        return self.epistemic_variance + self.aleatoric_variance


@dataclass
class ForecastOutput(RegressionOutput):
    """
    The posterior predictive of a forecaster. B windows, H steps, C channels, S draws; in the units of its input.

    Attributes:
        mean: of the predictive, (B, H, C).
        epistemic_variance: of the draws' forecasts, what the weights' uncertainty contributes, (B, H, C).
        aleatoric_variance: of the observations' noise, averaged over draws, (B, H, C).
        quantiles: of the predictive, noise included, at `quantile_levels`, (Q, B, H, C).
        samples: the draws' forecasts, without noise, (S, B, H, C), if they were asked for.
        paths: sample paths of the predictive, noise included, (P, B, H, C), if they were asked for.
    """

    paths: Tensor | None = None

    def interval(self, level: float) -> tuple[Tensor, Tensor]:
        """
        Return the lower and upper ends of the central interval that holds `level` of the predictive, (B, H, C) each.

        Raises:
            ValueError: its ends are not among `quantile_levels`.
        """
        ends = []
        for wanted in ((1 - level) / 2, (1 + level) / 2):
            near = [i for i, known in enumerate(self.quantile_levels) if abs(known - wanted) < 1e-6]
            if not near:
                raise ValueError(
                    f"The interval of {level:g} reaches to the quantile {wanted:g}, which is not among "
                    f"{list(self.quantile_levels)}: ask for it in quantile_levels."
                )
            ends.append(self.quantiles[near[0]])
        return ends[0], ends[1]


def _mapped(outputs: Sequence[_Output], change: Callable[[Sequence[Tensor], str], Tensor]) -> _Output:
    first = outputs[0]
    values: dict[str, Any] = {}
    for item in fields(first):  # type: ignore[arg-type]
        own = [getattr(output, item.name) for output in outputs]
        values[item.name] = own[0]
        if isinstance(own[0], _Tensors):
            values[item.name] = _mapped(own, change)
        elif isinstance(own[0], Tensor):
            values[item.name] = change(own, item.name)
    return type(first)(**values)


def _joined(values: Sequence[Tensor], dim: int) -> Tensor:
    sizes = torch.tensor([value.shape for value in values])
    largest = sizes.amax(0).tolist()
    filled = []
    for value in values:
        lacking = [(0, most - size) for most, size in zip(largest, value.shape, strict=True)]
        lacking[dim] = (0, 0)
        pads = [n for pair in reversed(lacking) for n in pair]
        filled.append(F.pad(value, pads, value=torch.nan) if any(pads) else value)
    return torch.cat(filled, dim=dim)
