import pytest
import torch

from hf_scorevi.inference import WindowNoise

WINDOWS, HORIZON, CHANNELS = 4000, 4, 3
FACTOR = torch.tensor([0.2, 0.3, 0.5, 1.0]).unsqueeze(1)


def scales(seed: int = 0) -> torch.Tensor:
    """Of windows whose spread differs a hundredfold, and of channels that differ tenfold, (B, 1, C)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(WINDOWS, 1, CHANNELS, generator=generator).exp() * torch.tensor([0.3, 1.0, 3.0])


def squares(scale: torch.Tensor, floor: torch.Tensor, seed: int) -> torch.Tensor:
    """Of residuals with the variance s_h² (scale² + floor)."""
    noise = torch.randn(len(scale), HORIZON, CHANNELS, generator=torch.Generator().manual_seed(seed))
    return noise.square() * FACTOR * (scale.square() + floor)


def learned(batch_size: int, passes_per_update: int, epochs: int = 1) -> tuple[WindowNoise, torch.Tensor]:
    noise, scale = WindowNoise(), scales()
    floor = 0.1 * scale.square().mean((0, 1))
    residuals = squares(scale, floor, seed=1)
    starts = [start for _ in range(epochs) for start in range(0, WINDOWS, batch_size)]
    for number, start in enumerate(starts, start=1):
        own = slice(start, start + batch_size)
        noise.observe(residuals[own], scale[own])
        if number % passes_per_update == 0:
            noise.update()
    return noise, floor


def test_one_pass_is_the_closed_form():
    noise, scale = WindowNoise(), scales()[:50]
    residuals = squares(scale, torch.ones(CHANNELS), seed=1)
    noise.observe(residuals, scale)
    noise.update()
    floor = 0.1 * scale.double().square().mean((0, 1))
    factor = (residuals.double() / (scale.double().square() + floor)).mean((0, 2))
    assert noise.factor is not None and noise.factor.dtype == torch.float64
    torch.testing.assert_close(noise.factor, factor.unsqueeze(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(noise.floor, floor, rtol=1e-6, atol=0)


def test_the_known_noise_is_recovered_from_all_windows_together():
    noise, floor = learned(batch_size=WINDOWS, passes_per_update=1)
    torch.testing.assert_close(noise.floor, floor.double(), rtol=1e-5, atol=0)
    error = (2 / (WINDOWS * CHANNELS)) ** 0.5  # of a mean of squared normals, relative
    torch.testing.assert_close(noise.factor, FACTOR.double(), rtol=5 * error, atol=0)


def test_and_from_batches_of_them():
    """Polynomial weights see less than half of the windows, and the floor, a heavy-tailed mean, moves meanwhile."""
    noise, floor = learned(batch_size=40, passes_per_update=5, epochs=3)
    torch.testing.assert_close(noise.floor, floor.double(), rtol=0.3, atol=0)
    error = (2 / (0.4 * WINDOWS * CHANNELS)) ** 0.5
    torch.testing.assert_close(noise.factor, FACTOR.double(), rtol=5 * error + 0.02, atol=0)


def test_what_was_observed_can_be_averaged_over_processes():
    scale = scales()[:60]
    residuals = squares(scale, torch.ones(CHANNELS), seed=1)
    whole, halves = WindowNoise(), [WindowNoise(), WindowNoise()]
    for noise in (whole, *halves):  # so that the floor in the residuals is the same for all
        noise.observe(residuals, scale)
        noise.update()
    whole.observe(residuals, scale)
    for half, own in zip(halves, (slice(0, 30), slice(30, 60)), strict=True):
        half.observe(residuals[own], scale[own])
    for mine, other in zip(halves[0].observed(), halves[1].observed(), strict=True):
        mine.add_(other).div_(2)
    whole.update()
    halves[0].update()
    torch.testing.assert_close(halves[0].factor, whole.factor, rtol=1e-6, atol=0)
    torch.testing.assert_close(halves[0].floor, whole.floor, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bad", ["residual", "scale"])
def test_what_is_not_finite_is_left_out(bad):
    noise, floor = learned(batch_size=WINDOWS, passes_per_update=1)
    before = noise.factor, noise.floor
    scale = scales()
    residuals = squares(scale, floor, seed=1)
    (residuals if bad == "residual" else scale)[3, 0, 1] = torch.nan
    noise.observe(residuals, scale)
    noise.update()
    assert (noise.factor, noise.floor) == before and noise.steps == 1
    noise.update()  # with nothing at all
    assert noise.observed() == [] and noise.steps == 1


def test_channels_and_windows_that_are_constant_leave_it_positive():
    noise = WindowNoise()
    noise.observe(torch.zeros(5, HORIZON, 2), torch.full((5, 1, 2), 1e-3))
    noise.update()
    assert noise.factor is not None and noise.floor is not None
    assert (noise.factor > 0).all() and (noise.floor > 0).all()


@pytest.mark.parametrize("updates", [0, 2])
def test_it_goes_on_from_its_state_in_the_middle_of_a_window(updates):
    noise, _ = learned(batch_size=WINDOWS // 2, passes_per_update=1) if updates else (WindowNoise(), None)
    scale = scales(seed=5)
    parts = [(squares(scale, torch.ones(CHANNELS), seed), scale) for seed in (6, 7, 8)]
    noise.observe(*parts[0])
    resumed = WindowNoise()
    resumed.load_state_dict({name: value.clone() for name, value in noise.state_dict().items()})
    for part in parts[1:]:
        for own in (noise, resumed):
            own.observe(*part)
            own.update()
    assert noise.factor is not None and torch.equal(noise.factor, resumed.factor)
    assert torch.equal(noise.floor, resumed.floor) and noise.steps == resumed.steps == updates + 2
