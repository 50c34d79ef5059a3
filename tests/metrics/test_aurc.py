import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hf_scorevi.metrics import aurc


def says(confidences):
    """Predictions of class 0 of these confidences: label 0 is right and label 1 wrong."""
    first = np.asarray(confidences, dtype=float)
    return np.stack([first, 1 - first], axis=1)


def mean_risk(errors):
    """Of errors in order of falling confidence."""
    return float(np.mean(np.cumsum(errors) / np.arange(1, len(errors) + 1)))


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_sorting(make_predictions, seed):
    probabilities, labels = make_predictions(num_examples=200, seed=seed)
    wrong = (probabilities.argmax(axis=1) != labels)[np.argsort(-probabilities.max(axis=1))]
    expected = mean_risk(wrong)
    assert aurc(probabilities, labels) == {
        "aurc": pytest.approx(expected, rel=1e-12),
        "excess_aurc": pytest.approx(expected - mean_risk(np.sort(wrong)), rel=1e-12),
        "accuracy_rejection_auc": pytest.approx(1 - expected, rel=1e-12),
    }


def test_by_hand():
    # Right, wrong, right in falling confidence: risks 0, 1/2, 1/3; at best 0, 0, 1/3.
    result = aurc(says([0.9, 0.7, 0.8]), [0, 0, 1])
    assert result["aurc"] == pytest.approx((1 / 2 + 1 / 3) / 3)
    assert result["excess_aurc"] == pytest.approx(1 / 6)


@pytest.mark.parametrize("labels", [[0, 1, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
def test_ties_have_the_mean_over_all_orders(labels):
    orders = itertools.permutations(labels)
    assert aurc(says([0.7] * 5), labels)["aurc"] == pytest.approx(np.mean([mean_risk(order) for order in orders]))


def test_does_not_depend_on_the_order_of_the_examples(make_predictions):
    probabilities, labels = make_predictions(num_classes=2)
    probabilities = np.round(probabilities, 1)
    order = np.random.default_rng(0).permutation(len(labels))
    assert aurc(probabilities, labels) == aurc(probabilities[order], labels[order])


def test_the_best_order_has_no_excess_and_the_worst_most():
    rng = np.random.default_rng(0)
    labels = (rng.random(50) < 0.4).astype(int)
    best, worst = np.where(labels == 0, 0.9, 0.6), np.where(labels == 0, 0.6, 0.9)
    assert roc_auc_score(labels == 0, best) == 1.0
    assert aurc(says(best), labels)["excess_aurc"] == pytest.approx(0.0, abs=1e-12)
    worst_area = mean_risk(np.sort(labels)[::-1])
    assert aurc(says(worst), labels)["aurc"] == pytest.approx(worst_area)
    assert aurc(says(worst), labels, scores=best)["excess_aurc"] == pytest.approx(0.0, abs=1e-12)


def test_scores_that_say_nothing_give_the_error_rate():
    labels = [0, 1, 0, 1, 0, 0]
    assert aurc(says(np.linspace(0.6, 0.9, 6)), labels, scores=np.zeros(6))["aurc"] == pytest.approx(1 / 3)


def test_extremes():
    assert aurc(says([0.9, 0.8]), [0, 0]) == {"aurc": 0.0, "excess_aurc": 0.0, "accuracy_rejection_auc": 1.0}
    assert aurc(says([0.9, 0.8]), [1, 1]) == {"aurc": 1.0, "excess_aurc": 0.0, "accuracy_rejection_auc": 0.0}
    assert aurc([[0.2, 0.8]], [0])["aurc"] == 1.0  # one example
