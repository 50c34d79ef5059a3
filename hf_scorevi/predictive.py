"""Averaging a model's outputs over posterior draws."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["OutputAverage", "PredictiveAverage", "per_example_scores"]


class OutputAverage:
    """
    Outputs averaged over draws, for what is not a choice between classes.

    Args:
        probabilities: the outputs are logits of independent yes-or-no labels, whose probabilities are averaged.
    """

    def __init__(self, probabilities: bool = False) -> None:
        self.num_samples = 0
        self._probabilities = probabilities
        self._sum: Tensor | None = None

    def add(self, outputs: Tensor) -> None:
        """Take in one draw."""
        values = outputs.float().sigmoid() if self._probabilities else outputs.float()
        self._sum = values if self._sum is None else self._sum + values
        self.num_samples += 1

    @property
    def outputs(self) -> Tensor:
        """The average, as logits if they were logits."""
        if self._sum is None:
            raise ValueError("No draw was added yet.")
        mean = self._sum / self.num_samples
        return mean.logit(torch.finfo(mean.dtype).eps) if self._probabilities else mean


class PredictiveAverage:
    """
    The predictive distribution of a classifier, streamed over draws: keeps one (batch, classes) table, not one a draw.

    `add` each draw's logits, of shape (..., classes), then read the properties.
    """

    def __init__(self) -> None:
        self.num_samples = 0
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
        if self._log_sum is None:
            raise ValueError("No draw was added yet.")
        # Normalised again, so that rounding over many draws cannot add up.
        return self._log_sum.log_softmax(-1)

    @property
    def entropy(self) -> Tensor:
        """Entropy of the averaged probabilities, in nats: total uncertainty."""
        log_probs = self.log_probs
        return -(log_probs.exp() * log_probs).sum(-1)

    @property
    def expected_entropy(self) -> Tensor:
        """Entropy averaged over draws, in nats: what more knowledge of the weights would not remove."""
        if self._entropy_sum is None:
            raise ValueError("No draw was added yet.")
        return self._entropy_sum / self.num_samples

    @property
    def mutual_information(self) -> Tensor:
        """entropy − expected entropy, in nats: what the weights' uncertainty contributes (BALD)."""
        return (self.entropy - self.expected_entropy).clamp_min(0)


@torch.no_grad()
def per_example_scores(log_probs: Tensor, labels: Tensor) -> Tensor:
    """
    What each example of a batch contributes to a classifier's figures, (B, 4), float32 on `log_probs`' device:

    log probability of the label in nats, confidence (the largest probability), 1 where its class (the first of equal
    ones) is the label and 0 elsewhere, Brier score (sum over classes, 0 to 2).

    Args:
        log_probs: (B, K), log of probabilities; their softmax is not taken.
        labels: (B,), whole class numbers.

    Raises:
        ValueError: wrong shapes, labels that are no classes.
    """
    if log_probs.dim() != 2 or labels.shape != log_probs.shape[:1]:
        raise ValueError(
            f"log_probs and labels must have the shapes (B, K) and (B,), not {tuple(log_probs.shape)} and "
            f"{tuple(labels.shape)}."
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be whole numbers, not {labels.dtype}.")
    log_probs = log_probs if log_probs.dtype == torch.float64 else log_probs.float()
    labels = labels.to(log_probs.device, torch.int64)
    # Before they index anything: on a GPU that would end the process.
    if not torch.all((labels >= 0) & (labels < log_probs.shape[1])):
        raise ValueError(
            f"labels must be classes 0 to {log_probs.shape[1] - 1}, not {labels.min().item()} to "
            f"{labels.max().item()}; leave out ignored examples (label -100)."
        )
    index = labels.unsqueeze(1)
    log_likelihood = log_probs.gather(1, index).squeeze(1)
    confidence, prediction = log_probs.max(1)
    errors = log_probs.exp().scatter_add_(1, index, torch.full_like(index, -1, dtype=log_probs.dtype))
    brier = errors.square_().sum(1)
    return torch.stack([log_likelihood, confidence.exp(), (prediction == labels).to(brier), brier], dim=1).float()
