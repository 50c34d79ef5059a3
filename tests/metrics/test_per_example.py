import math

import numpy as np
import pytest
import torch

from hf_scorevi.metrics import classification_metrics, summary_from_scores
from hf_scorevi.predictive import per_example_scores

GOOD = [math.log(0.8), 0.8, 1.0, 0.08]


@pytest.mark.parametrize("num_bins", [1, 10, 15])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_metrics_of_all_probabilities(make_predictions, seed, num_bins):
    probabilities, labels = make_predictions(num_examples=1000, seed=seed)
    scores = per_example_scores(torch.from_numpy(np.log(probabilities)), torch.from_numpy(labels))
    expected = classification_metrics(probabilities, labels, num_bins)
    summary = summary_from_scores(scores, num_bins)
    assert summary == {name: pytest.approx(expected[name], abs=1e-6) for name in summary}
    assert list(summary) == ["accuracy", "nll", "ece", "ece_bins", "brier"]


def test_batches_may_be_put_together(make_predictions):
    probabilities, labels = make_predictions(num_examples=50)
    log_probs, targets = torch.from_numpy(np.log(probabilities)), torch.from_numpy(labels)
    batches = [per_example_scores(*batch) for batch in zip(log_probs.split(8), targets.split(8), strict=True)]
    assert summary_from_scores(torch.cat(batches)) == summary_from_scores(per_example_scores(log_probs, targets))


def test_by_hand():
    wrong = [math.log(0.3), 0.7, 0.0, 0.98]
    assert summary_from_scores([GOOD, wrong], num_bins=2) == {
        "accuracy": 0.5,
        "nll": pytest.approx(-(math.log(0.8) + math.log(0.3)) / 2),
        "ece": pytest.approx(0.25),
        "ece_bins": 2,
        "brier": pytest.approx(0.53),
    }


def test_values_are_plain_python_numbers():
    summary = summary_from_scores(np.array([GOOD], dtype=np.float32), num_bins=np.int64(15))
    assert {name: type(value) for name, value in summary.items()} == {
        "accuracy": float,
        "nll": float,
        "ece": float,
        "ece_bins": int,
        "brier": float,
    }


def test_certain_and_right_is_a_plain_zero():
    value = summary_from_scores([[0.0, 1.0, 1.0, 0.0]])["nll"]
    assert value == 0.0
    assert math.copysign(1.0, value) == 1.0  # and not -0.0


def test_probability_zero_for_a_label_is_infinite_not_clipped():
    assert summary_from_scores([GOOD, [-math.inf, 1.0, 0.0, 2.0]])["nll"] == math.inf


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([], "scores must have the shape \\[examples, 4\\].*not \\[0\\]"),
        (np.empty((0, 4)), "at least one example"),
        ([GOOD[:3]], "not \\[1, 3\\]"),
        ([GOOD, GOOD[:2]], "scores is not a regular array"),
        ([["a", "b", "c", "d"]], "scores must be real numbers"),
        ([GOOD, [0.1, *GOOD[1:]]], "row 1 of scores has 0.1 in the place of a log probability"),
        ([[math.nan, *GOOD[1:]]], "row 0 of scores has nan in the place of a log probability"),
        ([[-1.0, 1.2, 1.0, 0.1]], "row 0 of scores has 1.2 in the place of a confidence"),
        ([[-1.0, math.nan, 1.0, 0.1]], "in the place of a confidence"),
        ([[-1.0, 0.5, 0.5, 0.1]], "row 0 of scores has 0.5 in the place of 0 or 1"),
        ([[-1.0, 0.5, math.nan, 0.1]], "in the place of 0 or 1"),
        ([[-1.0, 0.5, 1.0, 2.1]], "row 0 of scores has 2.1 in the place of a Brier score"),
        ([[-1.0, 0.5, 1.0, -0.1]], "in the place of a Brier score"),
    ],
)
def test_refuses_what_are_no_scores(scores, message):
    with pytest.raises(ValueError, match=message):
        summary_from_scores(scores)


@pytest.mark.parametrize("num_bins", [0, 1.5, True])
def test_refuses_numbers_of_bins(num_bins):
    with pytest.raises(ValueError, match="num_bins must be an integer of at least 1"):
        summary_from_scores([GOOD], num_bins)
