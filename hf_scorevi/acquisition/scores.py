"""Scores: how much is to be learned from an example's label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ._inputs import checked, entropies

if TYPE_CHECKING:
    from ..predictive import PredictiveOutput

__all__ = ["bald", "entropy", "least_confidence", "margin"]


def bald(predictive: PredictiveOutput | Tensor) -> Tensor:
    """
    Return the mutual information of label and weights, (B,) nats: how much the draws disagree.

    Args:
        predictive: a `PredictiveOutput`, or the probabilities of each draw, (S, B, K).

    Raises:
        ValueError: no probabilities, or not those of each draw.

    Source: Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning", arXiv 1112.5745,
    equation 2.
    """
    if not isinstance(predictive, Tensor):
        return predictive.mutual_information
    if predictive.dim() != 3:
        raise ValueError(f"bald needs the probabilities of each draw, (S, B, K), not {tuple(predictive.shape)}.")
    samples = checked(predictive)
    return (entropies(samples.mean(0)) - entropies(samples).mean(0)).clamp_min(0)


def entropy(predictive: PredictiveOutput | Tensor) -> Tensor:
    """
    Return the entropy of the predictive, (B,) nats: total uncertainty, that of the labels themselves included.

    Raises:
        ValueError: no probabilities.
    """
    return entropies(_probabilities(predictive)) if isinstance(predictive, Tensor) else predictive.entropy


def margin(predictive: PredictiveOutput | Tensor) -> Tensor:
    """
    Return minus the difference between the two highest probabilities, (B,), in [-1, 0].

    Raises:
        ValueError: no probabilities.

    Source: Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for Information Extraction", IDA 2001.
    """
    first, second = _probabilities(predictive).topk(2, dim=-1).values.unbind(-1)
    return second - first


def least_confidence(predictive: PredictiveOutput | Tensor) -> Tensor:
    """
    Return one minus the highest probability, (B,), in [0, 1 − 1/K].

    Raises:
        ValueError: no probabilities.

    Source: Lewis and Gale, "A Sequential Algorithm for Training Text Classifiers", SIGIR 1994.
    """
    return 1 - _probabilities(predictive).max(-1).values


def _probabilities(predictive: PredictiveOutput | Tensor) -> Tensor:
    """Return probabilities averaged over draws, (B, K)."""
    probabilities = checked(predictive if isinstance(predictive, Tensor) else predictive.probs)
    return probabilities.mean(0) if probabilities.dim() == 3 else probabilities
