"""The risk of the most confident predictions, against the share of examples that are predicted."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.chunks import top_label
from hf_scorevi.metrics.inputs import check_probabilities, check_scores


@dataclass(frozen=True)
class RiskCoverage:
    """The risk of answering only where confidence is highest.

    Attributes:
        coverage: [examples], the share of examples that are answered: 1/N, 2/N, ..., 1.
        risk: [examples], the share of wrong predictions among them.
    """

    coverage: npt.NDArray[np.float64]
    risk: npt.NDArray[np.float64]


def risk_coverage_curve(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, scores: npt.ArrayLike | None = None
) -> RiskCoverage:
    """Compute the risk among the k most confident examples, for every k.

    Where the k-th and the next example are equally confident, the risk is its expected value over their order, so that
    the order in which the examples are given does not matter.

    Args:
        probabilities: [examples, classes], rows sum to one. Array, tensor or nested list. The most probable class is
            the prediction, among equals that of lowest index.
        labels: [examples], integer class indices.
        scores: [examples], higher means more confident, for instance the negated mutual information; infinity is
            allowed. By default the probability of the predicted class.

    Raises:
        ValueError: wrong shapes, empty input, values that are no probabilities, labels out of range, NaN among the
            scores.

    Source: El-Yaniv and Wiener, "On the Foundations of Noise-free Selective Classification", JMLR 11 (2010);
    Geifman and El-Yaniv, NeurIPS 2017 (arXiv 1705.08500).
    """
    checked, targets = check_probabilities(probabilities, labels)
    confidences, predictions = top_label(checked)
    if scores is not None:
        confidences = check_scores(scores, len(targets))
    # One entry for each distinct confidence, the highest first.
    _, index = np.unique(-confidences, return_inverse=True)
    sizes = np.bincount(index)
    errors = np.bincount(index, weights=predictions != targets)
    # Within equals, each is as likely as any other to be the wrong one: the expected number of errors is linear.
    numbers = np.arange(1, len(targets) + 1)
    expected_errors = np.interp(numbers, np.append(0, sizes.cumsum()), np.append(0.0, errors.cumsum()))
    return RiskCoverage(coverage=numbers / len(targets), risk=expected_errors / numbers)
