"""Maps to constrained parameters: inverses, bounds and Jacobians."""

import pytest
import torch

from benchmarks.targets.transforms import Interval, Ordered, Positive, Real, Stack

STACKS = {
    "real": Stack([(3, Real())]),
    "positive": Stack([(3, Positive())]),
    "interval": Stack([(3, Interval(-1.0, 2.5))]),
    "ordered": Stack([(4, Ordered())]),
    "garch": Stack(
        [(1, Real()), (1, Positive()), (1, Interval()), (1, Interval(upper=lambda before: 1 - before[:, -1:]))]
    ),
    "mixture": Stack([(2, Ordered()), (2, Positive()), (1, Interval())]),
}


@pytest.mark.parametrize("name", STACKS)
def test_inverse_and_jacobian(name: str) -> None:
    stack = STACKS[name]
    u = torch.randn(5, stack.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, log_jacobian = stack.constrain(u)
    assert torch.allclose(stack.unconstrain(x), u, atol=1e-10)
    assert torch.allclose(stack.constrain(stack.unconstrain(x))[0], x, atol=1e-10)
    for row, value in zip(u, log_jacobian, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: stack.constrain(v[None])[0][0], row)
        assert torch.linalg.slogdet(jacobian).logabsdet.item() == pytest.approx(value.item(), abs=1e-10)


def test_bounds_hold() -> None:
    u = 5 * torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = STACKS["garch"].constrain(u)[0]
    assert bool((x[:, 1:] > 0).all()) and bool((x[:, 2] + x[:, 3] < 1).all())
    assert bool((STACKS["ordered"].constrain(u)[0].diff(dim=1) > 0).all())
