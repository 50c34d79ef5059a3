import math

import pytest
import torch
from scipy.stats import norm

from hf_scorevi.inference import CurvatureAverage, positive_mean
from hf_scorevi.posterior.families import DiagonalGaussian


def test_positive_meanagrees_with_the_truncated_normal_at_its_anchors():
    error = 2.0
    x = torch.tensor([0.0, 20.0], dtype=torch.float64)
    truncated = [v + error * norm.pdf(v / error) / norm.cdf(v / error) for v in x.tolist()]
    got = positive_mean(x, error)
    assert got[0].item() == pytest.approx(truncated[0], rel=1e-12)
    assert got[1].item() == pytest.approx(truncated[1], rel=0.01)


def test_positive_meanis_positive_increasing_and_never_below_the_estimate():
    x = torch.linspace(-10, 10, 201, dtype=torch.float64)
    got = positive_mean(x, 1.0)
    assert (got > 0).all()
    assert (got.diff() > 0).all()
    assert (got >= x).all()


def diagonal() -> CurvatureAverage:
    return CurvatureAverage(DiagonalGaussian([], []))


def estimate(average: CurvatureAverage) -> torch.Tensor:
    """The averaged curvature of the one tensor, which is one piece."""
    (piece,) = average.targets(0, average.level()[0].item(), 1.0, 0.0)
    return piece.float().expand(average.detail[0].shape)


def feed(average: CurvatureAverage, truth: torch.Tensor, noise: float, steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        average.update([truth + noise * torch.randn(truth.shape, generator=generator, dtype=truth.dtype)])


def test_pool_converges_and_knows_its_error():
    truth = torch.full((4,), 3.0)
    average = diagonal()
    feed(average, truth, noise=1.0, steps=400)
    error = math.sqrt(average.spread * average.pool_noise.item())
    # polynomial weights u³: variance of the mean is (η+1)²/(2η+1) = 16/7 times 1/400 of one estimate's
    assert average.spread == pytest.approx(16 / 7 / 400, rel=0.02)
    assert error == pytest.approx(math.sqrt(average.spread) * 0.5, rel=0.25)
    assert average.pool.item() == pytest.approx(3.0, abs=4 * error)


def test_forgets_the_beginning():
    average = diagonal()
    for value in [100.0] * 10 + [1.0] * 90:
        average.update([torch.tensor(value, dtype=torch.float64)])
    assert average.pool.item() == pytest.approx(1.0, abs=100 * 0.1**3)


def test_shrinkage_is_zero_for_pure_noise_and_near_one_for_clear_signal():
    flat, varied = diagonal(), diagonal()
    feed(flat, torch.full((500,), 2.0), noise=1.0, steps=30)
    feed(varied, torch.linspace(1, 10, 500), noise=0.1, steps=30)
    assert flat.shrinkage().item() == 0
    assert varied.shrinkage().item() > 0.99
    assert torch.allclose(estimate(flat), flat.level().float().expand(500))
    assert torch.allclose(estimate(varied), torch.linspace(1, 10, 500), rtol=0.1)


def test_refuses_non_finite_estimates_and_keeps_its_state():
    average = diagonal()
    average.update([torch.tensor(1.0)])
    average.update([torch.tensor(2.0)])
    before = (average.steps, average.pool.clone(), average.spread)
    with pytest.raises(FloatingPointError, match="not finite"):
        average.update([torch.tensor(float("nan"))])
    assert (average.steps, average.spread) == (before[0], before[2])
    assert torch.equal(average.pool, before[1])


def test_state_round_trip_continues_identically():
    a, b = diagonal(), diagonal()
    feed(a, torch.linspace(1, 2, 10), 0.3, 5)
    b.load_state_dict(a.state_dict(), [torch.device("cpu")])
    for average in (a, b):
        average.update([torch.linspace(2, 3, 10)])
    assert torch.equal(estimate(a), estimate(b))
    assert a.steps == b.steps == 6
