import pytest
import torch
from torch import nn

from hf_scorevi.posterior import FAMILIES, Posterior


def posterior(family: str, sizes=((40, 50), (3000,)), precision=(4.0, 25.0)) -> Posterior:
    params = {f"p{i}": nn.Parameter(torch.full(size, float(i))) for i, size in enumerate(sizes)}
    return Posterior(params, FAMILIES[family](list(params.values()), precision))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_draws_have_the_mean_and_the_precision(family):
    q = posterior(family)
    draws: list[list[torch.Tensor]] = [[], []]
    for seed in range(200):
        with q.sampled(seed):
            for kept, p in zip(draws, q.params, strict=True):
                kept.append(p.detach().clone())
    for i, (kept, precision) in enumerate(zip(draws, (4.0, 25.0), strict=True)):
        x = torch.stack(kept).double()
        n = x.numel()
        assert x.mean().item() == pytest.approx(i, abs=5 * precision**-0.5 / n**0.5)
        assert x.var().item() * precision == pytest.approx(1, abs=5 * (2 / n) ** 0.5)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_stein_identity_gives_the_curvature(family):
    """E[∇ℓ(m + ε/√λ) ε]·√λ is the curvature's diagonal (or its mean), here exactly: ℓ quadratic and separable."""
    q = posterior(family, sizes=((500,),), precision=(9.0,))
    curvature = torch.linspace(1, 3, 500)
    total = None
    for seed in range(300):
        with q.sampled(seed) as draw:
            plus = curvature * q.params[0].detach().clone()
            draw.flip_()
            minus = curvature * q.params[0].detach().clone()
        (product,) = q.family.correlate([(plus - minus) / 2], q.bucket_noise(seed, 0))
        total = product.clone() if total is None else total + product
    estimate = [total / 300]
    q.family.divide_by_std_(estimate)
    expected = curvature if family == "diagonal" else curvature.mean().double()
    # ε² has variance 2
    error = 5 * (2 / 300) ** 0.5 * expected / (1 if family == "diagonal" else 500**0.5)
    assert ((estimate[0] - expected).abs() < error).all()


def test_isotropic_and_diagonal_draw_the_same_weights_from_the_same_precision():
    a, b = posterior("isotropic"), posterior("diagonal")
    with a.sampled(5), b.sampled(5):
        for x, y in zip(a.params, b.params, strict=True):
            assert torch.allclose(x, y, atol=1e-6)
