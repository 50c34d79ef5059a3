import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from hf_scorevi.acquisition import power_acquisition, select


def test_the_highest_first():
    scores = torch.tensor([0.1, 0.9, -0.5, 0.4])
    assert select(scores, 3).tolist() == [1, 3, 0]
    assert select(torch.tensor([-torch.inf, 1.0, torch.inf]), 3).tolist() == [2, 1, 0]


def test_equal_scores_are_chosen_at_random_and_by_seed():
    scores = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, -1.0])
    found = [select(scores, 2, seed=seed).tolist() for seed in range(2000)]
    assert found[:20] == [select(scores, 2, seed=seed).tolist() for seed in range(20)]
    assert all(first == 0 for first, _ in found)
    counts = np.bincount([second for _, second in found], minlength=6)
    assert counts[[0, 5]].tolist() == [0, 0]
    assert chisquare(counts[1:5]).pvalue > 1e-4


def test_power_acquisition_draws_one_after_the_other_in_proportion():
    scores, power = torch.tensor([1.0, 2.0, 0.0, 3.0]), 2.0
    weights = scores.double().numpy() ** power
    expected, found = np.zeros((4, 4)), np.zeros((4, 4))
    for i in (0, 1, 3):
        for j in {0, 1, 3} - {i}:
            expected[i, j] = weights[i] / weights.sum() * weights[j] / (weights.sum() - weights[i])
    for seed in range(3000):
        found[tuple(power_acquisition(scores, 2, power, seed=seed).tolist())] += 1
    possible = expected > 0
    assert found[~possible].sum() == 0
    assert chisquare(found[possible], 3000 * expected[possible]).pvalue > 1e-4


def test_power_acquisition_chooses_different_examples_and_those_of_zero_last():
    scores = torch.tensor([0.0, 1e-30, 5.0, 0.0])
    for seed in range(20):
        batch = power_acquisition(scores, 4, seed=seed).tolist()
        assert sorted(batch) == [0, 1, 2, 3]
        assert set(batch[2:]) == {0, 3}
    assert power_acquisition(torch.zeros(5), 5).sort().values.tolist() == [0, 1, 2, 3, 4]


def test_power_zero_is_uniform_and_infinity_is_select():
    scores = torch.tensor([0.0, 1.0, 4.0])
    firsts = [power_acquisition(scores, 1, 0.0, seed=seed).item() for seed in range(1500)]
    assert chisquare(np.bincount(firsts, minlength=3)).pvalue > 1e-4
    assert power_acquisition(scores, 3, float("inf")).tolist() == [2, 1, 0]


@pytest.mark.parametrize("choose", [select, power_acquisition])
@pytest.mark.parametrize(
    ("scores", "k", "message"),
    [
        (torch.ones(3), 0, "k must be 1 to the number of examples, 3, not 0"),
        (torch.ones(3), 4, "k must be 1 to the number of examples, 3, not 4"),
        (torch.ones(0), 1, "k must be 1 to the number of examples, 0"),
        (torch.ones(3, 2), 1, r"scores must have the shape \(B,\) .* \(3, 2\)"),
        (torch.tensor([1.0, torch.nan]), 1, "be no NaN"),
    ],
)
def test_refuses_what_cannot_be_chosen_from(choose, scores, k, message):
    with pytest.raises(ValueError, match=message):
        choose(scores, k)


def test_power_acquisition_refuses_negative_scores_and_powers():
    with pytest.raises(ValueError, match="needs scores of at least 0: bald, entropy or least_confidence"):
        power_acquisition(torch.tensor([-0.1, 1.0]), 1)
    with pytest.raises(ValueError, match="power must be at least 0, not -1"):
        power_acquisition(torch.ones(2), 1, power=-1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_same_choice_on_every_device():
    scores = torch.rand(1000, generator=torch.Generator().manual_seed(0)).round(decimals=2)
    for choose in (select, power_acquisition):
        found = choose(scores.cuda(), 100, seed=3)
        assert found.is_cuda
        assert found.tolist() == choose(scores, 100, seed=3).tolist()
