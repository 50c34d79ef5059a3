import pytest
import torch
from torch.linalg import LinAlgError

from hf_scorevi.blackbox.noise import normal_noise
from hf_scorevi.blackbox.regression import ScoreRegression
from tests.blackbox.targets import random_gaussian


def test_is_weighted_least_squares():
    """Three batches with fading weights, against lstsq on all rows, in the coordinates of another Gaussian."""
    dim, q = 3, random_gaussian(3)
    rows, rates = [], [1.0, 0.5, 0.3]
    regression = ScoreRegression(dim)
    for i, rate in enumerate(rates):
        x, s = normal_noise(6, dim, 1, i), normal_noise(6, dim, 2, i)
        regression.add(x, s, rate)
        rows = [(x0, s0, w * (1 - rate)) for x0, s0, w in rows] + [
            (x, s, torch.full((6,), rate / 6, dtype=torch.float64))
        ]
    x, s, w = (torch.cat(part) for part in zip(*rows, strict=True))
    assert w.sum().item() == pytest.approx(1)
    assert regression.spread == pytest.approx(w.square().sum().item())
    assert regression.samples == 18
    root = w.sqrt()[:, None]
    design = torch.cat([torch.ones(18, 1).double(), q.whiten(x)], dim=1)
    expected = torch.linalg.lstsq(root * design, root * (s @ q.factor)).solution
    g, slope = regression.fit(q.mean, q.factor)
    torch.testing.assert_close(g, expected[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slope, expected[1:].T, rtol=1e-9, atol=1e-9)
    z = q.whiten(x)
    moment = (z * w[:, None]).T @ z
    # Second moments about q's mean: the spread within, and the distance between.
    assert regression.reach(q.mean, q.factor) == pytest.approx(torch.linalg.eigvalsh(moment)[-1].item(), rel=1e-9)


def test_a_gaussian_target_is_met_exactly_from_anywhere():
    target, q = random_gaussian(4), random_gaussian(4, seed=9)
    regression = ScoreRegression(4)
    for i in range(3):
        x = 5 + 3 * normal_noise(4, 4, i)
        regression.add(x, target.score(x), 0.4)
    g, slope = regression.fit(q.mean, q.factor)
    torch.testing.assert_close(slope, -q.factor.T @ target.precision @ q.factor, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(g, q.factor.T @ target.score(q.mean[None])[0], rtol=1e-8, atol=1e-8)


def test_too_few_samples():
    regression = ScoreRegression(4)
    regression.add(torch.zeros(4, 4).double(), torch.zeros(4, 4).double(), 1.0)
    with pytest.raises(LinAlgError):
        regression.fit(torch.zeros(4).double(), torch.eye(4).double())
