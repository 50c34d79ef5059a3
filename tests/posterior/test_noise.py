import pytest
import torch
from scipy import stats

from hf_scorevi.posterior import draw_seed, mix, standard_normal

CPU = torch.device("cpu")


def test_a_pure_function_of_its_seed_that_leaves_the_global_state_alone():
    shapes = [(5, 7), (), (300,)]
    before = torch.get_rng_state()
    a, b, other = (standard_normal(shapes, CPU, seed) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    assert [x.shape for x in a] == [torch.Size(shape) for shape in shapes]
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a[2], other[2])


def test_is_standard_normal():
    (noise,) = standard_normal([(100_000,)], CPU, 0)
    assert stats.kstest(noise.numpy(), "norm").pvalue > 1e-3


def test_neighbouring_keys_are_independent():
    draws = torch.stack([standard_normal([(10_000,)], CPU, mix(0, 42, step))[0] for step in range(20)])
    correlation = torch.corrcoef(draws) - torch.eye(20)
    assert correlation.abs().max() < 5 / 10_000**0.5


def test_mix_separates_keys_and_fits_a_generator():
    keys = {mix(a, b, c) for a in range(10) for b in range(10) for c in range(-5, 5)}
    assert len(keys) == 1000
    assert all(0 <= key < 2**63 for key in keys)
    assert mix(1, 2) != mix(2, 1)
    assert draw_seed(0, 1) != draw_seed(1, 0)


@pytest.mark.parametrize("key", [(2**70,), (-1,)])
def test_any_integer_is_a_key(key):
    torch.Generator().manual_seed(mix(*key))
