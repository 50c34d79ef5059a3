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
