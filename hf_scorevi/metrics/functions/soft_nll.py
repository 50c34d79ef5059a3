"""Negative log-likelihood against the labels of many annotators instead of one."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.chunks import row_chunks
from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.inputs import check_label_distributions, check_predictions

FIGURES = (
    Figure("soft_nll", "soft NLL", greater_is_better=False, unit="nats"),
    Figure("label_entropy", "entropy of the labels", greater_is_better=None, unit="nats"),
    Figure("kl", "KL divergence", greater_is_better=False, unit="nats"),
)


def soft_nll(probabilities: npt.ArrayLike, label_distributions: npt.ArrayLike) -> dict[str, Any]:
    """Compute the mean cross-entropy of predictions p under label distributions q, in nats, in [0, inf].

    For each example -Σ q_k log p_k is the entropy of q, a lower bound for any prediction, plus the Kullback-Leibler
    divergence KL(q ‖ p), which is zero where the prediction has the shares of the annotators. A probability of zero
    for a class that somebody chose makes the result infinite: nothing is clipped. Neither side is renormalised.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        label_distributions: [examples, classes], the share of annotators that chose each class; rows sum to one.
            Divide counts by their sum first.

    Returns:
        `{"soft_nll": float, "label_entropy": float, "kl": float, "unit": "nats"}`, where kl is the difference.

    Raises:
        ValueError: wrong or different shapes, empty input, rows on either side that are no distribution.

    Source: Peterson et al., "Human uncertainty makes classification more robust", ICCV 2019 (arXiv 1908.07086).
    """
    predicted = check_predictions(probabilities)
    human = check_label_distributions(label_distributions, predicted.shape)
    cross_entropy = label_entropy = 0.0
    for rows in row_chunks(*predicted.shape):
        q = human[rows].astype(np.float64, order="C")
        chosen = q > 0.0  # what nobody chose counts nothing, whatever its probability
        p = predicted[rows].astype(np.float64, order="C")
        p[~chosen] = 1.0
        with np.errstate(divide="ignore"):  # log 0 = -inf is the answer, not an accident
            cross_entropy -= float(np.vdot(q, np.log(p, out=p)))
        label_entropy -= float(np.vdot(q, np.log(np.where(chosen, q, 1.0))))
    num_examples = len(predicted)
    return {
        "soft_nll": 0.0 + cross_entropy / num_examples,  # 0 + x, because -0.0 would be printed as such
        "label_entropy": 0.0 + label_entropy / num_examples,
        "kl": (cross_entropy - label_entropy) / num_examples,
        "unit": "nats",
    }
