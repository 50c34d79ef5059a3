import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from hf_scorevi.metrics import ood_detection


def by_sklearn(scores, labels):
    rates = roc_curve(labels == 0, -scores, drop_intermediate=False)
    return {
        "auroc": roc_auc_score(labels, scores),
        "aupr_out": average_precision_score(labels, scores),
        "aupr_in": average_precision_score(labels == 0, -scores),
        "fpr95": rates[0][np.argmax(rates[1] >= 0.95)],
        "num_in": int((labels == 0).sum()),
        "num_out": int((labels == 1).sum()),
    }


@pytest.mark.parametrize("digits", [0, 1, 12])  # many, some and no equal scores
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_sklearn(seed, digits):
    rng = np.random.default_rng(seed)
    labels = (rng.random(503) < 0.3).astype(int)
    scores = np.round(rng.normal(labels, 1.0), digits)
    assert ood_detection(scores, labels) == pytest.approx(by_sklearn(scores, labels), rel=1e-12)


def test_of_two_normals_is_the_closed_form():
    rng = np.random.default_rng(0)
    n, shift = 40_000, 1.5
    scores = np.concatenate([rng.normal(size=n), rng.normal(shift, size=n)])
    result = ood_detection(scores, np.repeat([0, 1], n))
    # Both have a standard error below 1 / sqrt(n).
    assert result["auroc"] == pytest.approx(norm.cdf(shift / math.sqrt(2)), abs=4 / math.sqrt(n))
    assert result["fpr95"] == pytest.approx(norm.cdf(norm.ppf(0.95) - shift), abs=4 / math.sqrt(n))


def test_by_hand():
    # In distribution 1, 2, 3, out 2, 4. Pairs: 2 > 1, 2 = 2, 2 < 3, 4 > all.
    result = ood_detection([1, 2, 3, 2, 4], [0, 0, 0, 1, 1])
    assert result["auroc"] == pytest.approx((1 + 0.5 + 0 + 3) / 6)
    assert result["aupr_out"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)
    assert result["aupr_in"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert result["fpr95"] == 0.5  # at 3, that of all in distribution, lies one of the two


@pytest.mark.parametrize(("num_in", "accepted"), [(1, 1), (19, 19), (20, 19), (21, 20), (100, 95), (101, 96)])
def test_accepts_at_least_95_per_cent_and_not_one_more(num_in, accepted):
    # Scores 1 to num_in in distribution, and one outlier at each place between them.
    inside = np.arange(1, num_in + 1)
    outside = inside + 0.5
    result = ood_detection(np.concatenate([inside, outside]), np.repeat([0, 1], num_in))
    assert result["fpr95"] == pytest.approx((accepted - 1) / num_in)


def test_extremes():
    perfect = {"auroc": 1.0, "aupr_out": 1.0, "aupr_in": 1.0, "fpr95": 0.0, "num_in": 2, "num_out": 1}
    assert ood_detection([0.1, 0.2, 0.9], [0, 0, 1]) == perfect
    assert ood_detection([-math.inf, 0.2, math.inf], [0, 0, 1]) == perfect
    wrong = ood_detection([0.8, 0.9, 0.1], [0, 0, 1])
    assert wrong["auroc"] == 0.0 and wrong["fpr95"] == 1.0
    equal = ood_detection([0.5] * 4, [0, 0, 0, 1])
    assert equal == {"auroc": 0.5, "aupr_out": 0.25, "aupr_in": 0.75, "fpr95": 1.0, "num_in": 3, "num_out": 1}


def test_takes_tensors_of_low_precision_and_does_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    tensor = torch.from_numpy(rng.normal(labels)).to(torch.bfloat16)
    result = ood_detection(tensor, torch.from_numpy(labels))
    assert result == pytest.approx(by_sklearn(tensor.double().numpy(), labels), rel=1e-12)
    order = rng.permutation(100)
    assert ood_detection(tensor[order], labels[order]) == result


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([], [], "scores must have the shape \\[examples\\], at least one, not \\[0\\]"),
        ([[0.1], [0.2]], [0, 1], "scores must have the shape \\[examples\\]"),
        (["a", "b"], [0, 1], "scores must be real numbers"),
        ([0.1, math.nan], [0, 1], "scores\\[1\\] is NaN"),
        ([0.1, 0.2], [0], "labels must have the shape \\[2\\]"),
        ([0.1, 0.2], [0.0, 1.0], "labels must be integers"),
        ([0.1, 0.2], [0, 2], "labels\\[1\\] is 2, outside the 2 classes 0 to 1"),
        ([0.1, 0.2], [0, 0], "labels are all 0: give examples of both kinds"),
        ([0.1, 0.2], [1, 1], "labels are all 1: give examples of both kinds"),
    ],
)
def test_refuses(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        ood_detection(scores, labels)
