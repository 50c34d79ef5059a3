"""Area under the risk-coverage curve: whether confidence ranks right predictions above wrong ones."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.risk_coverage import risk_coverage_curve

FIGURES = (
    Figure("aurc", "AURC", greater_is_better=False),
    Figure("excess_aurc", "excess AURC", greater_is_better=False),
    Figure("accuracy_rejection_auc", "accuracy-rejection AUC", greater_is_better=True),
)


def aurc(probabilities: npt.ArrayLike, labels: npt.ArrayLike, scores: npt.ArrayLike | None = None) -> dict[str, Any]:
    """Compute the mean over k of the error rate of the k most confident of N examples; lower is better.

    `aurc`, in [0, 1], is the mean of `risk_coverage_curve` over its N points, the expected value where examples are
    equally confident. `excess_aurc` is its difference from the AURC of the best possible order, in which all errors
    come last: 0 where every error is less confident than every right prediction. `aurc` measures accuracy and ranking,
    `excess_aurc` mostly ranking, neither calibration. `accuracy_rejection_auc` is the area under accuracy against the
    share of examples rejected, over the same points: 1 - aurc.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list.
        labels: [examples], integer class indices.
        scores: [examples], higher means more confident; by default the probability of the predicted class.

    Returns:
        `{"aurc": float, "excess_aurc": float, "accuracy_rejection_auc": float}`

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, NaN among the
            scores.

    Source: Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", ICLR 2019
    (arXiv 1805.08206), with the finite sum in the place of their approximate best area; the
    accuracy-rejection curve: Nadeem et al., MLSB 2009 (JMLR W&CP 8).
    """
    curve = risk_coverage_curve(probabilities, labels, scores)
    num_examples = len(curve.risk)
    numbers = np.arange(1, num_examples + 1)
    num_errors = round(curve.risk[-1] * num_examples)
    best = np.maximum(numbers - (num_examples - num_errors), 0) / numbers
    area = float(curve.risk.mean())
    return {
        "aurc": area,
        "excess_aurc": float((curve.risk - best).mean()),
        "accuracy_rejection_auc": 1.0 - area,
    }
