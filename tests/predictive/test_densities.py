"""Moments and quantiles of forecasters' predictives, from draws and from sample paths."""

import pytest
import torch
from scipy.stats import norm

from hf_scorevi.predictive import GaussianNoise, GaussianPredictive, PathPredictive

LEVELS = (0.05, 0.5, 0.95)
DRAWS, PATHS, EPISTEMIC, ALEATORIC = 16, 6, 0.6, 1.7  # standard deviations


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def collected(collector, draws):
    for draw in draws:
        collector.add(draw)
    return collector.output()


def mean_and_error(values: torch.Tensor) -> tuple[float, float]:
    """Over elements that are independent."""
    return values.mean().item(), values.std().item() / values.numel() ** 0.5


def forecasts(noise=None, paths_per_draw=0, seed=0, draws=None):
    noise = noise or GaussianNoise(torch.tensor(0.5))
    return collected(
        GaussianPredictive(noise, LEVELS, forecasts=True, samples=True, paths_per_draw=paths_per_draw, seed=seed),
        randn(5, 6, 4, 3) if draws is None else draws,
    )


def test_a_gaussian_forecast_s_parts_are_in_closed_form():
    draws = randn(5, 6, 4, 3)
    out = forecasts()
    torch.testing.assert_close(out.mean, draws.mean(0))
    torch.testing.assert_close(out.epistemic_variance, draws.var(0))
    assert (out.aleatoric_variance == 0.5).all() and out.paths is None
    torch.testing.assert_close(out.variance, draws.var(0) + 0.5)
    assert torch.equal(out.samples, draws) and out.num_samples == 5
    below = norm.cdf(out.quantiles[2].unsqueeze(0).numpy(), draws.numpy(), 0.5**0.5).mean(0)
    assert below == pytest.approx(0.95, abs=1e-5)


def test_noise_of_the_windows_goes_into_variance_quantiles_and_paths():
    noise = GaussianNoise(torch.tensor([[0.1], [0.2], [0.3], [0.4]]), torch.tensor([0.0, 0.1, 1.0]))
    scale = torch.rand(6, 1, 3, generator=torch.Generator().manual_seed(2)) + 0.5
    collector = GaussianPredictive(noise, LEVELS, forecasts=True, paths_per_draw=4000, seed=1)
    collector.add(torch.zeros(6, 4, 3), scale)
    out = collector.output()
    expected = torch.tensor([0.1, 0.2, 0.3, 0.4]).unsqueeze(1) * (scale.square() + torch.tensor([0.0, 0.1, 1.0]))
    torch.testing.assert_close(out.aleatoric_variance, expected)
    torch.testing.assert_close(
        out.quantiles[2], norm.ppf(0.95) * expected.sqrt(), check_dtype=False, rtol=1e-4, atol=0
    )
    torch.testing.assert_close(out.paths.var(0) / expected, torch.ones(6, 4, 3), rtol=0, atol=6 * (2 / 4000) ** 0.5)
    assert out.samples is None and out.epistemic_variance.abs().max() == 0


def test_paths_are_draws_with_independent_noise():
    out = forecasts(paths_per_draw=3, seed=9)
    assert out.paths.shape == (15, 6, 4, 3)
    noise = (out.paths - out.samples.repeat_interleave(3, dim=0)) / 0.5**0.5
    numbers = noise.flatten()
    assert abs(numbers.mean()) < 4 / len(numbers) ** 0.5
    assert abs(numbers.square().mean() - 1) < 4 * (2 / len(numbers)) ** 0.5
    table = noise.reshape(-1, 12).T.corrcoef() - torch.eye(12)
    assert table.abs().max() < 5 / 90**0.5  # steps and channels are independent
    assert torch.equal(out.paths, forecasts(paths_per_draw=3, seed=9).paths)
    assert not torch.allclose(out.paths, forecasts(paths_per_draw=3, seed=10).paths)


def test_the_split_of_paths_is_unbiased():
    """Of forecasts with a known variance between draws and within each."""
    elements = 3000
    centres = EPISTEMIC * randn(DRAWS, 1, elements, 1, 1)
    out = collected(
        PathPredictive(LEVELS, samples=True, paths=True),
        centres + ALEATORIC * randn(DRAWS, PATHS, elements, 1, 1, seed=1),
    )
    # clamping at zero is the user's good but a bias, so the unbiased parts are recomputed from what was kept
    paths = out.paths.unflatten(0, (DRAWS, PATHS))
    unclamped = paths.mean(1).var(0) - paths.var(1).mean(0) / PATHS
    for found, expected in ((unclamped, EPISTEMIC**2), (out.aleatoric_variance, ALEATORIC**2)):
        mean, error = mean_and_error(found)
        assert abs(mean - expected) < 4 * error
        assert error < 0.05 * expected
    assert torch.equal(out.epistemic_variance, unclamped.clamp_min(0))
    mean, error = mean_and_error(out.variance)
    assert abs(mean - EPISTEMIC**2 - ALEATORIC**2) < 4 * error + 0.01 * EPISTEMIC**2


def test_paths_that_do_not_depend_on_the_draw_have_next_to_no_epistemic_part():
    out = collected(PathPredictive(LEVELS), randn(DRAWS, 200, 50, 4, 3))
    assert out.epistemic_variance.mean() < 0.005  # were the 1/K of the noise left in, it would be that
    assert out.samples is None and out.paths is None


def test_quantiles_and_mean_are_those_of_all_paths():
    paths = randn(4, 5, 6, 3, 2)
    out = collected(PathPredictive(LEVELS, samples=True, paths=True), paths)
    assert torch.equal(out.paths, paths.flatten(0, 1))
    torch.testing.assert_close(out.quantiles, out.paths.quantile(torch.tensor(LEVELS), dim=0))
    torch.testing.assert_close(out.mean, out.paths.mean(0))
    torch.testing.assert_close(out.samples, paths.mean(1))
    assert out.num_samples == 4


def test_the_mean_s_paths_alone_have_no_epistemic_part():
    out = collected(PathPredictive(LEVELS), randn(1, 50, 6, 3, 2))
    assert out.epistemic_variance.abs().max() == 0
    torch.testing.assert_close(out.aleatoric_variance, randn(1, 50, 6, 3, 2)[0].var(0))


def test_one_path_a_draw_cannot_be_split():
    with pytest.raises(ValueError, match="paths_per_draw of two or more"):
        PathPredictive(LEVELS, paths=True).add(torch.zeros(1, 6, 3, 2))
