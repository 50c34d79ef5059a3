"""How well a score tells examples of another distribution from those that the model was made for."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.figure import Figure
from hf_scorevi.metrics.inputs import check_labels, check_scores

FIGURES = (
    Figure("auroc", "AUROC", greater_is_better=True),
    Figure("aupr_out", "AUPR of outliers", greater_is_better=True),
    Figure("aupr_in", "AUPR of inliers", greater_is_better=True),
    Figure("fpr95", "FPR95", greater_is_better=False),
)

FPR_AT = 95  # per cent of in-distribution examples that are to be accepted


def ood_detection(scores: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float | int]:
    """Measure how well a score ranks outliers: AUROC, two AUPRs, and the false-positive rate FPR95.

    - `auroc`: the chance that an out-of-distribution example has a higher score than one in distribution; equal
      scores count one half. 0.5 is chance, 1 perfect.
    - `aupr_out`: average precision with out-of-distribution as the positive class, Σ (R_n - R_{n-1}) P_n over
      thresholds; `aupr_in`: the same with in-distribution as positive and the score negated. Chance is the share of
      the positive class, so compare them only at the same `num_in` and `num_out`.
    - `fpr95`: in-distribution is the positive class. The threshold is the lowest score at or below which at least
      95 % of the in-distribution examples lie; `fpr95` is the share of out-of-distribution examples that lie there
      too, and would be accepted. 0 is perfect, 0.95 chance. (Papers that make out-of-distribution the positive class
      report another number under this name.)

    Equal scores count as ties, so that the order of the examples does not matter.

    Args:
        scores: [examples], higher means out-of-distribution, for instance the predictive entropy; infinity is allowed.
            Array, tensor or list.
        labels: [examples], 0 for in-distribution and 1 for out-of-distribution, at least one of each.

    Returns:
        `{"auroc": float, "aupr_out": float, "aupr_in": float, "fpr95": float, "num_in": int, "num_out": int}`

    Raises:
        ValueError: wrong shapes, NaN among the scores, labels other than 0 and 1, only one of them present.

    Source: Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural
    Networks", ICLR 2017 (arXiv 1610.02136); fpr95 as in Liang et al., ICLR 2018 (arXiv 1706.02690), section 4.2.
    """
    values = check_scores(scores)
    is_out = check_labels(labels, len(values), 2) == 1
    if is_out.all() or not is_out.any():
        raise ValueError(
            f"labels are all {int(is_out[0])}: give examples of both kinds, 0 for in-distribution and 1 for "
            "out-of-distribution"
        )
    # One entry for each distinct score, ascending: how many examples of either kind have it.
    _, index = np.unique(values, return_inverse=True)
    num_out_at = np.bincount(index, weights=is_out)
    num_in_at = np.bincount(index, weights=~is_out)
    num_out, num_in = int(is_out.sum()), int((~is_out).sum())
    in_up_to = num_in_at.cumsum()
    above = num_out_at * (in_up_to - num_in_at / 2)  # for each of these: those in distribution below it, ties by half
    accepted = np.searchsorted(in_up_to, -(-FPR_AT * num_in // 100))  # rounded up, in integers
    return {
        "auroc": float(above.sum() / (num_out * num_in)),
        "aupr_out": _average_precision(num_out_at[::-1], num_in_at[::-1]),
        "aupr_in": _average_precision(num_in_at, num_out_at),
        "fpr95": float(num_out_at[: accepted + 1].sum() / num_out),
        "num_in": num_in,
        "num_out": num_out,
    }


def _average_precision(positives: npt.NDArray[Any], negatives: npt.NDArray[Any]) -> float:
    """Compute average precision from the numbers at each threshold, the most positive first."""
    found = positives.cumsum()
    precision = found / (found + negatives.cumsum())
    return float(positives @ precision / found[-1])
