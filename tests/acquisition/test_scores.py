import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from hf_scorevi import PredictiveOutput
from hf_scorevi.acquisition import bald, entropy, least_confidence, margin


@pytest.fixture
def samples():
    return torch.from_numpy(np.random.default_rng(0).dirichlet(np.full(4, 0.7), size=(5, 30)))


def test_entropy_agrees_with_scipy(samples):
    expected = scipy_entropy(samples.mean(0).numpy(), axis=-1)
    np.testing.assert_allclose(entropy(samples).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(entropy(samples.mean(0)).numpy(), expected, rtol=1e-12)


def test_bald_is_the_mean_divergence_of_the_draws_from_the_predictive(samples):
    mean = samples.mean(0)
    expected = (samples * (samples / mean).log()).sum(-1).mean(0)
    torch.testing.assert_close(bald(samples), expected)


def test_bald_by_hand():
    sure_and_opposed = [[1.0, 0.0], [0.0, 1.0]]
    unsure_alike = [[0.5, 0.5], [0.5, 0.5]]
    samples = torch.tensor([sure_and_opposed, unsure_alike]).transpose(0, 1)
    torch.testing.assert_close(bald(samples), torch.tensor([math.log(2), 0.0]))
    torch.testing.assert_close(entropy(samples), torch.tensor([math.log(2), math.log(2)]))


def test_margin_and_least_confidence_by_hand():
    probabilities = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2]])
    torch.testing.assert_close(margin(probabilities), torch.tensor([-0.2, -0.7, 0.0]))
    torch.testing.assert_close(least_confidence(probabilities), torch.tensor([0.5, 0.2, 0.6]))


@pytest.mark.parametrize("score", [entropy, margin, least_confidence])
def test_scores_of_draws_are_those_of_their_mean(samples, score):
    torch.testing.assert_close(score(samples), score(samples.mean(0)))


@pytest.mark.parametrize("score", [bald, entropy, margin, least_confidence])
def test_the_flattest_and_most_disputed_is_first(samples, score):
    disputed = torch.eye(4, dtype=torch.float64)[[0, 1, 2, 3, 0]][:, None]  # each draw is sure of another class
    agreed = torch.eye(4, dtype=torch.float64)[[0] * 5][:, None]
    scores = score(torch.cat([agreed, disputed, samples], dim=1))
    assert scores[1] == pytest.approx(scores.max().item(), abs=0.2)
    assert scores[0] == pytest.approx(scores.min().item(), abs=1e-12)


def test_takes_what_predict_gives(samples):
    mean = samples.mean(0)
    given = {"entropy": torch.rand(30), "mutual_information": torch.rand(30)}
    output = PredictiveOutput.__new__(PredictiveOutput)
    output.log_probs = mean.log()
    output.entropy, output.mutual_information = given.values()
    assert bald(output) is given["mutual_information"]
    assert entropy(output) is given["entropy"]
    torch.testing.assert_close(margin(output), margin(mean))
    torch.testing.assert_close(least_confidence(output), least_confidence(mean))


def test_half_precision_is_computed_in_float32():
    half = torch.tensor([[[0.3, 0.7]], [[0.6, 0.4]]], dtype=torch.float16)
    for score in (bald, entropy, margin, least_confidence):
        assert score(half).dtype == torch.float32
        torch.testing.assert_close(score(half), score(half.float()))


@pytest.mark.parametrize("score", [bald, entropy, margin, least_confidence])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.tensor([[[2.0, -1.0]]]), "no probabilities: apply softmax"),
        (torch.tensor([[[0.5, 0.9]]]), "no probabilities: apply softmax"),
        (torch.tensor([[[0.5, math.nan]]]), "no probabilities: apply softmax"),
        (torch.ones(2, 3, 1), r"at least two classes, not \(2, 3, 1\)"),
        (torch.ones(2, 0, 2), r"not \(2, 0, 2\)"),
        (torch.tensor([0.5, 0.5]), r"\(2,\)"),
    ],
)
def test_refuses_what_are_no_probabilities(score, values, message):
    with pytest.raises(ValueError, match=message):
        score(values)


def test_bald_needs_draws():
    with pytest.raises(ValueError, match=r"bald needs the probabilities of each draw, \(S, B, K\), not \(1, 2\)"):
        bald(torch.tensor([[0.5, 0.5]]))
