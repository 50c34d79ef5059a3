"""Averaging a model's outputs over posterior draws."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LabelsAverage", "OutputAverage", "PredictiveAverage"]


class OutputAverage:
    """Outputs averaged over draws, for what is no probability."""

    def __init__(self) -> None:
        self.num_samples = 0
        self._sum: Tensor | None = None

    def add(self, outputs: Tensor) -> None:
        """Take in one draw."""
        self._sum = outputs.float() if self._sum is None else self._sum + outputs.float()
        self.num_samples += 1

    @property
    def outputs(self) -> Tensor:
        """The average."""
        return _added(self._sum) / self.num_samples


class LabelsAverage:
    """
    The predictive distribution of several independent yes-or-no labels an example, streamed over draws.

    `add` each draw's logits, of shape (..., labels), then read the properties, of the same shape.
    """

    def __init__(self) -> None:
        self.num_samples = 0
        self._sum: Tensor | None = None
        self._entropy_sum: Tensor | None = None

    def add(self, logits: Tensor) -> None:
        """Take in one draw."""
        probs = logits.float().sigmoid()
        self._sum = probs if self._sum is None else self._sum + probs
        own = _binary_entropy(probs)
        self._entropy_sum = own if self._entropy_sum is None else self._entropy_sum + own
        self.num_samples += 1

    @property
    def outputs(self) -> Tensor:
        """What stands in the place of logits: their sigmoid is the predictive."""
        return self.probs.logit(torch.finfo(torch.float32).eps)

    @property
    def probs(self) -> Tensor:
        """Each label's probability, averaged over draws."""
        return _added(self._sum) / self.num_samples

    @property
    def log_probs(self) -> Tensor:
        """log of `probs`."""
        return self.probs.log()

    @property
    def entropy(self) -> Tensor:
        """Of each label, in nats: total uncertainty."""
        return _binary_entropy(self.probs)

    @property
    def expected_entropy(self) -> Tensor:
        """Of each label, averaged over draws, in nats."""
        return _added(self._entropy_sum) / self.num_samples

    @property
    def mutual_information(self) -> Tensor:
        """entropy − expected entropy of each label, in nats."""
        return (self.entropy - self.expected_entropy).clamp_min(0)


class PredictiveAverage:
    """
    The predictive distribution of a classifier, streamed over draws: keeps one (batch, classes) table, not one a draw.

    `add` each draw's logits, of shape (..., classes), then read the properties.

    Args:
        temperature: of the averaged probabilities, p^(1/T) normalised: changes `log_probs`, `probs` and `outputs`.
            The uncertainties in nats stay those of the draws.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self.num_samples = 0
        self._temperature = temperature
        self._log_sum: Tensor | None = None
        self._entropy_sum: Tensor | None = None

    def add(self, logits: Tensor) -> None:
        """Take in one draw."""
        log_probs = logits.float().log_softmax(-1)
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        if self._log_sum is None or self._entropy_sum is None:
            self._log_sum, self._entropy_sum = log_probs, entropy
        else:
            self._log_sum = torch.logaddexp(self._log_sum, log_probs)
            self._entropy_sum = self._entropy_sum + entropy
        self.num_samples += 1

    @property
    def outputs(self) -> Tensor:
        """What stands in the place of logits: their softmax is the predictive."""
        return self.log_probs

    @property
    def log_probs(self) -> Tensor:
        """log of the probabilities averaged over draws."""
        # Normalised, so that rounding over many draws cannot add up; division by the temperature comes before it.
        return (_added(self._log_sum) / self._temperature).log_softmax(-1)

    @property
    def probs(self) -> Tensor:
        """The probabilities averaged over draws."""
        return self.log_probs.exp()

    @property
    def entropy(self) -> Tensor:
        """Entropy of the averaged probabilities, in nats: total uncertainty."""
        log_probs = _added(self._log_sum).log_softmax(-1)
        return -(log_probs.exp() * log_probs).sum(-1)

    @property
    def expected_entropy(self) -> Tensor:
        """Entropy averaged over draws, in nats: what more knowledge of the weights would not remove."""
        return _added(self._entropy_sum) / self.num_samples

    @property
    def mutual_information(self) -> Tensor:
        """entropy − expected entropy, in nats: what the weights' uncertainty contributes (BALD)."""
        return (self.entropy - self.expected_entropy).clamp_min(0)


def _added(total: Tensor | None) -> Tensor:
    if total is None:
        raise ValueError("No draw was added yet.")
    return total


def _binary_entropy(probs: Tensor) -> Tensor:
    return torch.special.entr(probs) + torch.special.entr(1 - probs)
