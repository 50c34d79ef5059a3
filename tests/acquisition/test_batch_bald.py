import itertools
import math
import sys

import numpy as np
import pytest
import torch

from hf_scorevi.acquisition import bald, batch_bald


def pool(draws, examples, classes, seed=0, concentration=0.5):
    table = np.random.default_rng(seed).dirichlet(np.full(classes, concentration), size=(draws, examples))
    return torch.from_numpy(table)


def joint_information(samples, indices):
    """Mutual information of the weights with these examples' labels, over every combination of labels."""
    by_draw = torch.ones(len(samples), 1, dtype=torch.float64)  # of each combination
    for index in indices:
        by_draw = (by_draw[:, :, None] * samples[:, index, None, :]).flatten(1)
    joint = by_draw.mean(0)
    return ((by_draw * by_draw.log()).sum(1).mean() - (joint * joint.log()).sum()).item()


def greedy(samples, k):
    chosen = []
    for _ in range(k):
        rest = [b for b in range(samples.shape[1]) if b not in chosen]
        chosen.append(max(rest, key=lambda b: joint_information(samples, [*chosen, b])))
    return chosen


@pytest.mark.parametrize(("draws", "classes", "k"), [(6, 2, 5), (4, 3, 4), (10, 5, 3)])
def test_agrees_with_brute_force(draws, classes, k):
    samples = pool(draws, 8, classes)
    indices, information = batch_bald(samples, k)
    assert indices.tolist() == greedy(samples, k)
    expected = [joint_information(samples, indices.tolist()[:n]) for n in range(1, k + 1)]
    np.testing.assert_allclose(information.numpy(), expected, rtol=1e-10)


def test_the_first_is_that_of_bald():
    samples = pool(8, 50, 4)
    indices, information = batch_bald(samples, 1)
    assert indices.item() == bald(samples).argmax().item()
    torch.testing.assert_close(information[0], bald(samples).max())


@pytest.mark.parametrize("seed", range(5))
def test_sampled_configurations_are_near_the_exact_information(seed):
    samples = pool(20, 6, 4, seed=seed)
    # From the second example on, of 4^6 = 4096 combinations 64 are sampled.
    indices, information = batch_bald(samples, 6, max_configurations=64, seed=seed)
    exact = [joint_information(samples, indices.tolist()[:n]) for n in range(1, 7)]
    np.testing.assert_allclose(information[:4].numpy(), exact[:4], rtol=1e-10)  # 4^3 = 64 are all of them
    # A mean over 64 configurations, whose information varies by at most ln 20.
    np.testing.assert_allclose(information.numpy(), exact, atol=4 * math.log(20) / 64**0.5 / 8)


def test_more_configurations_are_nearer_to_the_exact_information():
    samples = pool(20, 6, 4, seed=3)
    errors = {}
    for most in (16, 512):
        found = [batch_bald(samples, 6, max_configurations=most, seed=seed) for seed in range(12)]
        errors[most] = np.mean(
            [(info[-1].item() - joint_information(samples, indices.tolist())) ** 2 for indices, info in found]
        )
    assert errors[512] < errors[16] / 8


def test_does_not_choose_the_same_twice():
    # Ten copies of the most disputed example, and others that are less so.
    disputed = torch.tensor([[0.95, 0.05], [0.95, 0.05], [0.05, 0.95], [0.05, 0.95]])
    other = torch.tensor([[0.8, 0.2], [0.2, 0.8], [0.8, 0.2], [0.2, 0.8]])
    samples = torch.stack([disputed] * 10 + [other] * 2, dim=1)
    assert bald(samples).topk(3).indices.max() < 10
    indices, _ = batch_bald(samples, 2)
    assert indices[0] < 10 <= indices[1]


def test_information_is_bounded_by_the_number_of_draws():
    samples = pool(4, 60, 3, concentration=0.2)
    indices, information = batch_bald(samples, 60, max_configurations=200)
    assert sorted(indices.tolist()) == list(range(60))
    assert (information.diff() >= 0).all()
    assert information[-1] == pytest.approx(math.log(4), rel=0.01)
    assert (information <= math.log(4) * 1.001).all()


def test_draws_that_are_sure():
    # Three binary labels number the eight draws: each tells ln 2.
    bits = torch.tensor(list(itertools.product((0, 1), repeat=3)))
    samples = torch.eye(2)[torch.cat([bits, bits], dim=1)]
    indices, information = batch_bald(samples, 4)
    assert len({index % 3 for index in indices.tolist()[:3]}) == 3
    torch.testing.assert_close(information, math.log(2) * torch.tensor([1.0, 2.0, 3.0, 3.0]))


def test_one_draw_has_nothing_to_tell():
    _, information = batch_bald(pool(1, 5, 3).float(), 3)
    torch.testing.assert_close(information, torch.zeros(3), atol=1e-6, rtol=0)


def test_float32_and_many_configurations_are_near_float64():
    samples = pool(30, 40, 10, seed=4)
    indices, information = batch_bald(samples, 10, max_configurations=1000)
    indices32, information32 = batch_bald(samples.float(), 10, max_configurations=1000)
    assert indices32.tolist() == indices.tolist()
    torch.testing.assert_close(information32.double(), information, atol=1e-3, rtol=0)


def test_pieces_are_the_same(monkeypatch):
    samples = pool(6, 30, 4)
    whole = batch_bald(samples, 4)
    monkeypatch.setattr(sys.modules[batch_bald.__module__], "_TILE", 100)
    in_pieces = batch_bald(samples, 4)
    assert in_pieces[0].tolist() == whole[0].tolist()
    torch.testing.assert_close(in_pieces[1], whole[1])


def test_seeds_repeat():
    samples = pool(10, 20, 4)
    first, again = (batch_bald(samples, 6, max_configurations=20, seed=3) for _ in range(2))
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], batch_bald(samples, 6, max_configurations=20, seed=4)[1])


def test_errors_name_what_is_wrong():
    with pytest.raises(
        ValueError, match=r"batch_bald needs the probabilities of each draw, \(S, B, K\), not \(8, 3\)"
    ):
        batch_bald(pool(4, 8, 3)[0], 2)
    with pytest.raises(ValueError, match="no probabilities: apply softmax"):
        batch_bald(torch.randn(4, 8, 3), 2)
    with pytest.raises(ValueError, match="k must be 1 to the number of examples, 8, not 9"):
        batch_bald(pool(4, 8, 3), 9)
    with pytest.raises(ValueError, match="max_configurations must be at least the 3 classes, not 2"):
        batch_bald(pool(4, 8, 3), 2, max_configurations=2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_chooses_the_same():
    samples = pool(30, 40, 10, seed=4)
    indices, information = batch_bald(samples, 8, max_configurations=1000)
    found, on_gpu = batch_bald(samples.cuda(), 8, max_configurations=1000)
    assert found.is_cuda
    assert found.tolist() == indices.tolist()
    torch.testing.assert_close(on_gpu.cpu(), information, atol=1e-9, rtol=0)
