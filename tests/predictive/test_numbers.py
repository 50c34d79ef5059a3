import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from hf_scorevi.metrics import crps_gaussian_mixture, mixture_nll, mse_mae
from hf_scorevi.predictive import COVERAGES, GAUSSIAN_SCORES, gaussian_mixture_scores, mixture_quantiles

VARIANCES = {"number": (), "channel": (3,), "horizon": (4, 1), "element": (4, 3), "window": (6, 4, 3)}


def example(draws: int = 7):
    """Means (S, B, H, C) and targets (B, H, C), with draws as far apart as the noise is wide."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(1, 6, 4, 3, generator=generator) * 3 + torch.randn(draws, 6, 4, 3, generator=generator)
    return means, means.mean(0) + 1.5 * torch.randn(6, 4, 3, generator=generator)


def variance_of(kind: str) -> torch.Tensor:
    return torch.rand(VARIANCES[kind], generator=torch.Generator().manual_seed(1)) + 0.2


@pytest.mark.parametrize("draws", [1, 7])
@pytest.mark.parametrize("kind", VARIANCES)
def test_each_example_s_scores_are_the_metrics(kind, draws):
    (means, target), variance = example(draws), variance_of(kind)
    scores = gaussian_mixture_scores(means, variance, target)
    assert scores.shape == (6, len(GAUSSIAN_SCORES)) and scores.dtype == torch.float32
    deviations = variance.expand(6, 4, 3).sqrt()
    levels = [(1 + sign * level) / 2 for level in COVERAGES for sign in (-1, 1)]
    ends = mixture_quantiles(means, variance, levels)
    for i in range(6):
        own = means[:, i].flatten(1).T, deviations[i].flatten(), target[i].flatten()
        point = mse_mae(own[0], own[2])
        expected = {"mse": point["mse"], "mae": point["mae"]}
        expected["nll"] = mixture_nll(*own)["mixture_nll"]
        expected["crps"] = crps_gaussian_mixture(*own)["crps_gaussian_mixture"]
        for k, level in enumerate(COVERAGES):
            inside = (ends[2 * k, i] <= target[i]) & (target[i] <= ends[2 * k + 1, i])
            expected[f"coverage_{100 * level:.0f}"] = inside.float().mean().item()
        assert tuple(expected) == GAUSSIAN_SCORES
        assert scores[i].tolist() == pytest.approx(list(expected.values()), rel=2e-5, abs=2e-6)


def test_crps_is_the_integral_of_the_squared_distance_between_distributions():
    means, target = torch.tensor([[-1.0], [0.2], [2.5]]), torch.tensor([0.9])
    score = dict(zip(GAUSSIAN_SCORES, gaussian_mixture_scores(means, torch.tensor(0.49), target)[0], strict=True))
    components = norm(means[:, 0].numpy(), 0.7)
    below = quad(lambda x: components.cdf(x).mean() ** 2, -12, 0.9)[0]
    above = quad(lambda x: (1 - components.cdf(x).mean()) ** 2, 0.9, 14)[0]
    assert score["crps"].item() == pytest.approx(below + above, rel=1e-5)
    assert score["nll"].item() == pytest.approx(-math.log(components.pdf(0.9).mean()), rel=1e-5)


def test_coverage_of_what_the_mixture_itself_draws():
    generator = torch.Generator().manual_seed(3)
    means = torch.randn(5, 1, 1, generator=generator).expand(5, 20000, 1)
    chosen = torch.randint(5, (20000,), generator=generator)
    target = means[chosen, torch.arange(20000)] + 0.6 * torch.randn(20000, 1, generator=generator)
    scores = gaussian_mixture_scores(means, torch.tensor(0.36), target).double().mean(0)
    for level in COVERAGES:
        found = scores[GAUSSIAN_SCORES.index(f"coverage_{100 * level:.0f}")].item()
        assert abs(found - level) < 4 * math.sqrt(level * (1 - level) / 20000)


def test_targets_far_away_have_finite_scores():
    """Density and distribution round to zero and one."""
    means, target = torch.tensor([[0.0, 1e4], [0.1, 1e4]]), torch.tensor([300.0, -1e4])
    scores = gaussian_mixture_scores(means.unsqueeze(2), torch.tensor(0.01), target.unsqueeze(1))
    own = means.T, 0.1, target
    expected = [mixture_nll(*own)["mixture_nll"], crps_gaussian_mixture(*own)["crps_gaussian_mixture"]]
    assert scores[:, 2:4].double().mean(0).tolist() == pytest.approx(expected, rel=1e-4)
    assert scores[:, 4:].abs().max() == 0


def test_without_a_noise_variance_there_are_errors_alone():
    means, target = example()
    scores = gaussian_mixture_scores(means, None, target)
    assert torch.equal(scores[:, :2], gaussian_mixture_scores(means, torch.tensor(1.0), target)[:, :2])
    assert scores[:, 2:].isnan().all() and scores[:, :2].isfinite().all()
