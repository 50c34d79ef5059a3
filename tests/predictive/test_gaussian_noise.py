import pytest
import torch

from hf_scorevi.predictive import GaussianNoise

OUTPUTS = torch.zeros(5, 4, 3)


@pytest.mark.parametrize("shape", [(), (3,), (4, 1), (4, 3)])
def test_a_variance_of_each_granularity_is_that_of_its_elements(shape):
    variance = torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape).double()
    found = GaussianNoise(variance).of(OUTPUTS)
    assert found.shape == OUTPUTS.shape and found.dtype == torch.float32
    for b in range(5):
        for h in range(4):
            for c in range(3):
                own = variance
                if len(shape) == 2:
                    own = variance[h, c if shape[1] > 1 else 0]
                elif len(shape) == 1:
                    own = variance[c]
                assert found[b, h, c] == own


def test_relative_to_the_window():
    """s_h² (scale² + floor)."""
    factor = torch.tensor([[0.5], [1.0], [2.0], [4.0]], dtype=torch.float64)
    floor = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    scale = torch.rand(5, 1, 3, generator=torch.Generator().manual_seed(0)) * 3
    found = GaussianNoise(factor, floor).of(OUTPUTS, scale)
    for b, h, c in ((0, 0, 0), (4, 3, 2), (2, 1, 1)):
        expected = factor[h, 0] * (scale[b, 0, c].double() ** 2 + floor[c])
        assert found[b, h, c].item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_regression_of_several_targets():
    assert GaussianNoise(torch.tensor([1.0, 2.0])).of(torch.zeros(3, 2)).tolist() == [[1.0, 2.0]] * 3


@pytest.mark.parametrize(
    ("noise", "outputs"),
    [
        (GaussianNoise(torch.ones(2)), OUTPUTS),
        (GaussianNoise(torch.ones(3, 1)), OUTPUTS),
        (GaussianNoise(torch.ones(4, 2)), OUTPUTS),
        (GaussianNoise(torch.ones(4, 1), torch.ones(2)), OUTPUTS),
        (GaussianNoise(torch.ones(5, 1)), torch.zeros(5, 3)),  # whose examples are no steps
    ],
)
def test_the_noise_of_another_model_is_told(noise, outputs):
    with pytest.raises(ValueError, match="posterior is that of another model"):
        noise.of(outputs, torch.ones(5, 1, 3))


WINDOWS, FACTOR = 4000, torch.tensor([0.2, 0.3, 0.5, 1.0], dtype=torch.float64).unsqueeze(1)


def scales() -> torch.Tensor:
    """Of windows whose spread differs a hundredfold, and of channels that differ tenfold, (N, 1, C)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(WINDOWS, 1, 3, generator=generator).exp() * torch.tensor([0.3, 1.0, 3.0])


def test_the_fit_to_windows_finds_the_noise_that_residuals_were_made_with():
    scale = scales()
    floor = 0.3 * scale.double().square().mean((0, 1))
    normal = torch.randn(WINDOWS, 4, 3, generator=torch.Generator().manual_seed(1)).double()
    found = GaussianNoise.fit(normal.square() * FACTOR * (scale.square() + floor), "window", scale)
    torch.testing.assert_close(found.floor, floor, rtol=1e-6, atol=0)
    error = (2 / (WINDOWS * 3)) ** 0.5  # of a mean of squared normals, relative
    torch.testing.assert_close(found.variance, FACTOR, rtol=5 * error, atol=0)


@pytest.mark.parametrize(
    ("granularity", "over", "shape"),
    [("model", (0, 1, 2), ()), ("channel", (0, 1), (3,)), ("horizon", (0, 2), (4, 1)), ("element", (0,), (4, 3))],
)
def test_the_fit_is_the_mean_of_the_squares(granularity, over, shape):
    squares = torch.rand(7, 4, 3, generator=torch.Generator().manual_seed(0))
    found = GaussianNoise.fit(squares, granularity)
    assert found.floor is None
    torch.testing.assert_close(found.variance, squares.double().mean(over).reshape(shape), rtol=1e-6, atol=0)


def test_constant_windows_and_channels_leave_it_positive():
    found = GaussianNoise.fit(torch.zeros(5, 4, 2), "window", torch.zeros(5, 1, 2))
    assert (found.variance > 0).all() and (found.floor > 0).all()
    found = GaussianNoise.fit(torch.tensor([[[1.0, 0.0]]]), "channel")
    assert found.variance.tolist() == pytest.approx([1.0, 5e-5])  # a ten-thousandth of the mean


def test_residuals_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        GaussianNoise.fit(torch.tensor([[[1.0, torch.nan]]]), "model")
