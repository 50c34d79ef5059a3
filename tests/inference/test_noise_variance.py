import numpy as np
import pytest
import torch
from scipy.special import poch
from scipy.stats import norm

from hf_scorevi.inference import GRANULARITIES, NoiseVariance
from hf_scorevi.inference.curvature import FORGETTING

AXES = {
    "model": (0, 1, 2, 3),
    "channel": (0, 1, 2),
    "horizon": (0, 1, 3),
    "element": (0, 1),
}  # of passes, windows, H, C
SHAPES = {"model": (), "channel": (3,), "horizon": (4, 1), "element": (4, 3)}


def squared_residuals(passes: int = 3, seed: int = 0) -> torch.Tensor:
    """(passes, windows, H, C), of another size in each step and channel."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(passes, 5, 4, 3, generator=generator).square() * torch.arange(1.0, 13).reshape(4, 3)


def seen(noise: NoiseVariance, passes: torch.Tensor) -> NoiseVariance:
    for squares in passes:
        noise.observe(squares)
    return noise


def after(noise: NoiseVariance, passes: torch.Tensor) -> torch.Tensor:
    seen(noise, passes).update()
    assert noise.value is not None
    return noise.value


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("passes", [1, 3])
def test_it_is_the_mean_of_squared_residuals(granularity, passes):
    squares = squared_residuals(passes)
    value = after(NoiseVariance(granularity), squares)
    expected = squares.double().mean(AXES[granularity], keepdim=True)[0, 0].reshape(SHAPES[granularity])
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)


def test_of_the_model_it_takes_the_loss_as_well():
    squares = squared_residuals(1)
    torch.testing.assert_close(after(NoiseVariance(), squares.mean((1, 2, 3))), after(NoiseVariance(), squares))


def test_estimates_are_weighted_by_a_power_of_their_number():
    """Estimate k of n by k(k+1)…(k+p−1), about kᵖ."""
    estimates = np.random.default_rng(0).uniform(1, 2, 12)
    noise = NoiseVariance()
    for number, estimate in enumerate(estimates, start=1):
        value = after(noise, torch.tensor([estimate]))
        weights = poch(np.arange(1, number + 1), FORGETTING)
        assert value.item() == pytest.approx(np.average(estimates[:number], weights=weights), rel=1e-6)
    assert noise.steps == 12


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_scale_weights_and_normaliser_give_the_gaussian_density(granularity):
    noise, squares = NoiseVariance(granularity), squared_residuals(1, seed=1)[0].double()
    variance = after(noise, squared_residuals())
    weights = noise.weights(squares)
    weighted = (squares * (1 if weights is None else weights)).mean().item()
    expected = -norm.logpdf(squares.sqrt(), 0, variance.expand(4, 3).sqrt()).mean()
    assert noise.scale * weighted + noise.log_normaliser == pytest.approx(expected, rel=1e-6)
    if weights is not None:
        assert weights.expand(4, 3).mean().item() == pytest.approx(1)


def test_before_anything_is_known_the_variance_counts_as_one():
    noise = NoiseVariance("channel")
    assert noise.value is None and noise.weights(torch.ones(2)) is None
    assert -norm.logpdf(1.5) == pytest.approx(noise.scale * 1.5**2 + noise.log_normaliser)


@pytest.mark.parametrize("granularity", ["channel", "element"])
def test_a_channel_that_is_forecast_exactly_does_not_outweigh_the_others(granularity):
    squares = squared_residuals()
    squares[..., 1] = 0
    noise = NoiseVariance(granularity)
    value = after(noise, squares).expand(4, 3)
    torch.testing.assert_close(value[:, 1], 1e-4 * squares.double().mean().expand(4), rtol=1e-5, atol=0)
    torch.testing.assert_close(value[:, [0, 2]], after(NoiseVariance(granularity), squares[..., [0, 2]]).expand(4, 2))


def test_residuals_that_are_all_zero_leave_everything_finite():
    noise = NoiseVariance("channel")
    value = after(noise, torch.zeros(2, 5, 4, 3))
    weights = noise.weights(torch.ones(()))
    assert (value > 0).all() and np.isfinite([noise.scale, noise.log_normaliser]).all()
    assert weights is not None and torch.equal(weights, torch.ones(3))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_what_is_not_finite_is_left_out(granularity, bad):
    spoilt, noise = squared_residuals(seed=1), NoiseVariance(granularity)
    spoilt[1, 2, 3, 0] = bad
    seen(noise, spoilt).update()
    assert noise.value is None
    before = after(noise, squared_residuals()).clone()
    assert torch.equal(after(noise, spoilt), before)
    torch.testing.assert_close(after(noise, squared_residuals()), before)  # nothing of it is left
    assert noise.steps == 2


def test_what_is_known_does_not_move():
    noise = NoiseVariance(value=0.3, learned=False)
    assert after(noise, squared_residuals()).item() == 0.3
    assert seen(noise, squared_residuals()).observed() == []


def test_an_update_without_residuals_changes_nothing():
    noise = NoiseVariance()
    noise.update()
    assert noise.value is None and noise.observed() == []


def test_what_was_observed_can_be_averaged_over_processes():
    """In place, whatever the number of passes."""
    ranks = [seen(NoiseVariance("channel"), squared_residuals(seed=rank)) for rank in (0, 1)]
    means = [noise.observed()[0] for noise in ranks]
    average = (means[0] + means[1]) / 2
    for noise, mean in zip(ranks, means, strict=True):
        mean.copy_(average)
        noise.update()
    both = torch.cat([squared_residuals(seed=0), squared_residuals(seed=1)])
    torch.testing.assert_close(ranks[0].value, after(NoiseVariance("channel"), both), rtol=1e-6, atol=0)
    assert torch.equal(ranks[0].value, ranks[1].value)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("updates", [0, 2])
def test_it_goes_on_from_its_state_in_the_middle_of_a_window(granularity, updates):
    noise, resumed = NoiseVariance(granularity), NoiseVariance(granularity)
    for update in range(updates):
        after(noise, squared_residuals(seed=update))
    seen(noise, squared_residuals(2, seed=7))
    resumed.load_state_dict({name: value.clone() for name, value in noise.state_dict().items()})
    for seed in (8, 9):
        assert torch.equal(after(noise, squared_residuals(seed=seed)), after(resumed, squared_residuals(seed=seed)))
    assert noise.steps == resumed.steps == updates + 2


@pytest.mark.parametrize(("granularity", "shape"), [("channel", ()), ("horizon", (8, 3)), ("element", (8, 3))])
def test_outputs_without_these_dimensions_are_refused(granularity, shape):
    with pytest.raises(ValueError, match=rf"no noise variance for each {granularity}; choose .*'model'"):
        NoiseVariance(granularity).observe(torch.ones(shape))
