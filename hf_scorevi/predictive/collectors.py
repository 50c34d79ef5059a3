"""From the outputs of one draw after another to a prediction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .averages import LabelsAverage, PredictiveAverage
from .moments import Moments
from .outputs import PredictiveOutput, RegressionOutput
from .quantiles import mixture_quantiles

__all__ = ["ClassCollector", "RegressionCollector"]


class ClassCollector:
    """
    A classifier's draws, for `PredictiveOutput`.

    Args:
        temperature: of the averaged probabilities.
        independent: the logits are of independent yes-or-no labels.
        keep_samples, keep_logits: what of each draw is kept; without either the memory is that of one draw.
    """

    def __init__(self, temperature: float, independent: bool, keep_samples: bool, keep_logits: bool) -> None:
        self._average = LabelsAverage() if independent else PredictiveAverage(temperature)
        self._independent = independent
        self._moments = Moments()
        self._samples: list[Tensor] | None = [] if keep_samples else None
        self._logits: list[Tensor] | None = [] if keep_logits else None

    def add(self, logits: Tensor) -> None:
        """Take in one draw."""
        logits = logits.float()
        self._average.add(logits)
        self._moments.add(logits)
        if self._samples is not None:
            self._samples.append(logits.sigmoid() if self._independent else logits.softmax(-1))
        if self._logits is not None:
            self._logits.append(logits)

    def result(self) -> PredictiveOutput:
        """After all draws."""
        average = self._average
        return PredictiveOutput(
            probs=average.probs,
            log_probs=average.log_probs,
            entropy=average.entropy,
            expected_entropy=average.expected_entropy,
            mutual_information=average.mutual_information,
            logit_std=self._moments.variance.sqrt(),
            num_samples=average.num_samples,
            samples=None if self._samples is None else torch.stack(self._samples),
            logits=None if self._logits is None else torch.stack(self._logits),
        )


class RegressionCollector:
    """
    A regression's draws, for `RegressionOutput`. Quantiles of the mixture need all draws' outputs.

    Args:
        noise_variance: σ² of the likelihood, in squared units of the target.
        quantile_levels: in (0, 1).
        keep_samples: whether the result has the draws' outputs.
    """

    def __init__(self, noise_variance: float, quantile_levels: Sequence[float], keep_samples: bool) -> None:
        self._noise_variance = noise_variance
        self._levels = tuple(quantile_levels)
        self._keep_samples = keep_samples
        self._outputs: list[Tensor] = []

    def add(self, outputs: Tensor) -> None:
        """Take in one draw."""
        self._outputs.append(outputs.float())

    def result(self) -> RegressionOutput:
        """After all draws."""
        draws = torch.stack(self._outputs)
        noise = torch.full_like(draws[0], self._noise_variance)
        return RegressionOutput(
            mean=draws.mean(0),
            epistemic_variance=draws.var(0) if len(draws) > 1 else torch.zeros_like(noise),
            aleatoric_variance=noise,
            quantiles=mixture_quantiles(draws, noise, self._levels),
            quantile_levels=self._levels,
            num_samples=len(draws),
            samples=draws if self._keep_samples else None,
        )
