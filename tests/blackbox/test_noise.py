import math

import pytest
import torch

from hf_scorevi.blackbox.noise import normal_noise, orthogonal_noise


def test_a_pure_function_of_its_key():
    state = torch.random.get_rng_state()
    for draw in (normal_noise, orthogonal_noise):
        assert torch.equal(draw(4, 3, 7, 1), draw(4, 3, 7, 1))
        assert not torch.equal(draw(4, 3, 7, 1), draw(4, 3, 7, 2))
        assert not torch.equal(draw(4, 3, 7, 1), draw(4, 3, 8, 1))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(("pairs", "dim"), [(3, 5), (5, 5), (12, 5), (4, 1)])
def test_pairs_are_antithetic_and_orthogonal_in_blocks(pairs, dim):
    z = orthogonal_noise(pairs, dim, 0)
    assert z.shape == (2 * pairs, dim)
    assert torch.equal(z[:pairs], -z[pairs:])
    block = z[: min(pairs, dim)]
    gram = block @ block.T
    torch.testing.assert_close(gram, torch.diag(gram.diagonal()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [1, 3])
def test_each_row_is_standard_normal(dim):
    n = 60_000
    z = orthogonal_noise(n, dim, 3)[:n]
    # Rows of a block depend on each other, blocks don't: the error is at most that of n/dim independent rows.
    error = math.sqrt(dim / n)
    assert z.mean(0).abs().max() < 5 * error
    assert (z.T @ z / n - torch.eye(dim)).abs().max() < 5 * error * math.sqrt(2)
    assert (z.pow(4).mean(0) - 3).abs().max() < 5 * error * math.sqrt(96)
