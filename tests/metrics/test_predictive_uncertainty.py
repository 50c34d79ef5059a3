import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from hf_scorevi.metrics import predictive_uncertainty


@pytest.fixture
def draws():
    return np.random.default_rng(0).dirichlet(np.full(5, 0.5), size=(40, 6))


def test_agrees_with_scipy(draws):
    total = entropy(draws.mean(axis=1), axis=1)
    expected = entropy(draws, axis=2).mean(axis=1)
    result = predictive_uncertainty(draws, quantiles=[0.1, 0.5])
    for name, values in {
        "entropy": total,
        "expected_entropy": expected,
        "mutual_information": total - expected,
    }.items():
        assert result[name] == pytest.approx(values.mean(), rel=1e-12)
        assert result[f"{name}_quantiles"] == pytest.approx(np.quantile(values, [0.1, 0.5]), rel=1e-12)
    assert {key: result[key] for key in ("quantiles", "num_draws", "unit")} == {
        "quantiles": [0.1, 0.5],
        "num_draws": 6,
        "unit": "nats",
    }


def test_mutual_information_is_the_mean_divergence_from_the_predictive(draws):
    mean = draws.mean(axis=1, keepdims=True)
    divergences = (draws * np.log(draws / mean)).sum(axis=2)
    assert predictive_uncertainty(draws)["mutual_information"] == pytest.approx(divergences.mean(), rel=1e-9)


def test_draws_that_agree_have_no_mutual_information():
    result = predictive_uncertainty(np.full((3, 4, 5), 0.2))
    assert result["entropy"] == result["expected_entropy"] == pytest.approx(math.log(5))
    assert result["mutual_information"] == pytest.approx(0.0, abs=1e-12)
    assert result["mutual_information"] >= 0.0


def test_certain_draws_that_disagree_have_nothing_else():
    result = predictive_uncertainty([[[0.0, 1.0], [1.0, 0.0]]])
    assert result["expected_entropy"] == 0.0
    assert math.copysign(1.0, result["expected_entropy"]) == 1.0  # and not -0.0
    assert result["entropy"] == result["mutual_information"] == pytest.approx(math.log(2))


def test_one_draw_is_all_entropy(draws):
    result = predictive_uncertainty(draws[:, :1])
    assert result["mutual_information"] == 0.0
    assert result["entropy"] == result["expected_entropy"]


def test_does_not_depend_on_the_chunks(draws, monkeypatch):
    whole = predictive_uncertainty(draws)
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 70)
    assert predictive_uncertainty(draws) == whole


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_takes_tensors(dtype):
    draws = torch.tensor([[[0.75, 0.25], [0.375, 0.625]], [[0.9375, 0.0625], [0.5, 0.5]]])  # exact in all of them
    assert predictive_uncertainty(draws.to(dtype).requires_grad_()) == predictive_uncertainty(draws.double())


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([[0.2, 0.8]], "must have the shape \\[examples, draws, classes\\].*not \\[1, 2\\]: give those of each draw"),
        ([[[1.0], [1.0]]], "at least two classes, not \\[1, 2, 1\\]"),
        (np.empty((0, 2, 3)), "probabilities is empty"),
        (np.empty((2, 0, 3)), "probabilities is empty"),
        ([[["a", "b"]]], "must be real numbers"),
        ([[[0.5, 0.5], [0.5, 0.6]]], "row 1 of probabilities, counted as examples × 2 draws, \\(sum 1.1\\)"),
        ([[[0.5, 0.5]], [[1.5, -0.5]]], "row 1 of .* holds a negative value"),
        ([[[0.5, math.nan]]], "row 0 of .* holds NaN or infinity"),
    ],
)
def test_refuses_what_are_no_draws(probabilities, message):
    with pytest.raises(ValueError, match=message):
        predictive_uncertainty(probabilities)


def test_names_the_row_in_a_later_chunk(draws, monkeypatch):
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 70)
    draws[20, 3] = 1.0
    with pytest.raises(ValueError, match="row 123 of"):
        predictive_uncertainty(draws)


@pytest.mark.parametrize("quantiles", [[], [1.1], [-0.1], [math.nan], 0.5])
def test_refuses_quantiles(draws, quantiles):
    with pytest.raises(ValueError, match="quantiles must be levels from 0 to 1"):
        predictive_uncertainty(draws, quantiles)
