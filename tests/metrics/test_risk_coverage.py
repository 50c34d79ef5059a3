import itertools
import math

import numpy as np
import pytest
import torch

from hf_scorevi.metrics import risk_coverage_curve


def confident(confidences):
    """Predictions of class 0 of these confidences: label 0 is right and label 1 wrong."""
    first = np.asarray(confidences, dtype=float)
    return np.stack([first, 1 - first], axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_plain_loop(make_predictions, seed):
    probabilities, labels = make_predictions(num_examples=120, seed=seed)
    curve = risk_coverage_curve(probabilities, labels)
    order = sorted(range(120), key=lambda i: -max(probabilities[i]))
    errors = 0
    for k, i in enumerate(order, start=1):
        errors += probabilities[i].argmax() != labels[i]
        assert curve.risk[k - 1] == pytest.approx(errors / k, rel=1e-12)
        assert curve.coverage[k - 1] == k / 120


def test_by_hand():
    curve = risk_coverage_curve(confident([0.9, 0.7, 0.8]), [0, 1, 1])
    np.testing.assert_allclose(curve.coverage, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(curve.risk, [0, 1 / 2, 2 / 3])


def test_ties_have_the_mean_over_all_orders():
    confidences, labels = [0.9, 0.8, 0.8, 0.8, 0.8, 0.6], np.array([1, 0, 1, 1, 0, 0])
    curve = risk_coverage_curve(confident(confidences), labels)
    risks = []
    for middle in itertools.permutations(range(1, 5)):
        ordered = labels[[0, *middle, 5]]
        risks.append(np.cumsum(ordered) / np.arange(1, 7))
    np.testing.assert_allclose(curve.risk, np.mean(risks, axis=0), rtol=1e-12)


def test_does_not_depend_on_the_order_of_the_examples(make_predictions):
    probabilities, labels = make_predictions(num_classes=2)
    probabilities = np.round(probabilities, 1)
    curve = risk_coverage_curve(probabilities, labels)
    order = np.random.default_rng(0).permutation(len(labels))
    np.testing.assert_array_equal(risk_coverage_curve(probabilities[order], labels[order]).risk, curve.risk)


def test_the_last_risk_is_that_of_all(make_predictions):
    probabilities, labels = make_predictions()
    assert risk_coverage_curve(probabilities, labels).risk[-1] == (probabilities.argmax(axis=1) != labels).mean()


def test_scores_order_and_do_not_predict():
    probabilities, labels = confident([0.9, 0.7, 0.8]), [0, 1, 1]
    np.testing.assert_allclose(risk_coverage_curve(probabilities, labels, [1.0, 3.0, 2.0]).risk, [1, 1, 2 / 3])
    np.testing.assert_allclose(risk_coverage_curve(probabilities, labels, [0, 0, 0]).risk, [2 / 3] * 3)
    np.testing.assert_allclose(
        risk_coverage_curve(probabilities, labels, torch.tensor([math.inf, -1.0, -math.inf])).risk, [0, 1 / 2, 2 / 3]
    )


def test_one_example_and_none_right():
    curve = risk_coverage_curve([[0.2, 0.8]], [0])
    np.testing.assert_array_equal([curve.coverage, curve.risk], [[1.0], [1.0]])
    np.testing.assert_array_equal(risk_coverage_curve(confident([0.9, 0.6]), [1, 1]).risk, [1.0, 1.0])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0.1], "scores must have the shape \\[2\\], one for each row"),
        ([[0.1], [0.2]], "scores must have the shape \\[2\\]"),
        (["a", "b"], "scores must be real numbers"),
        ([0.1, math.nan], "scores\\[1\\] is NaN"),
    ],
)
def test_refuses_scores(scores, message):
    with pytest.raises(ValueError, match=message):
        risk_coverage_curve([[0.2, 0.8], [0.5, 0.5]], [0, 1], scores)
