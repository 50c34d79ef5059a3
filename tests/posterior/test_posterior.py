import pytest
import torch
from torch import nn

from hf_scorevi import PosteriorConfig
from hf_scorevi.posterior import Posterior, weight_scales
from hf_scorevi.posterior import posterior as module


def small(**config) -> Posterior:
    torch.manual_seed(0)
    params = {"a": nn.Parameter(torch.randn(30, 40) * 3), "zero": nn.Parameter(torch.zeros(40))}
    return Posterior.initialise(params, PosteriorConfig(**config))


def test_starts_concentrated_relative_to_each_tensor():
    q = small(init_std=0.01)
    rms = q.params[0].square().mean().sqrt().item()
    overall = (q.params[0].square().sum() / 1240).sqrt().item()
    assert q.precision["a"].item() ** -0.5 == pytest.approx(0.01 * rms, rel=1e-5)
    assert q.precision["zero"].item() ** -0.5 == pytest.approx(0.01 * overall, rel=1e-5)
    assert q.num_weights == 1240


def test_scales_of_nothing_but_zeros_fall_back():
    assert weight_scales([torch.zeros(3), torch.zeros(2, 2)]) == [0.02, 0.02]


@pytest.mark.parametrize("family", ["isotropic", "diagonal"])
def test_the_mean_is_bit_identical_after_a_draw_even_after_an_exception(family):
    q = small(family=family)
    before = [p.detach().clone() for p in q.params]
    with pytest.raises(RuntimeError, match="inside"), q.sampled(1) as draw:
        assert not torch.equal(q.params[0], before[0])
        draw.flip_()
        raise RuntimeError("inside")
    assert all(torch.equal(p, b) for p, b in zip(q.params, before, strict=True))


def test_a_failure_while_perturbing_restores_too(monkeypatch):
    q = small()
    before = [p.detach().clone() for p in q.params]

    def half_way(noise, index):
        q.params[0].data.add_(1.0)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(q.family, "scale_noise_", half_way)
    with pytest.raises(RuntimeError, match="out of memory"), q.sampled(1):
        pass
    assert all(torch.equal(p, b) for p, b in zip(q.params, before, strict=True))


def test_flip_is_the_antithetic_draw():
    q = small(init_std=0.5)
    mean = q.params[0].detach().clone()
    with q.sampled(1) as draw:
        plus = q.params[0].detach().clone()
        draw.flip_()
        assert torch.allclose((plus + q.params[0]) / 2, mean, atol=1e-6)
        assert not torch.allclose(plus, q.params[0])


def test_noise_does_not_depend_on_what_else_is_in_the_bucket_order(monkeypatch):
    """Buckets bound memory only: each has its own seed, and every weight gets noise exactly once."""
    monkeypatch.setattr(module, "_BUCKET_ELEMENTS", 1000)
    q = small()
    assert q.buckets == [[0], [1]]
    (first,), (second,) = q.bucket_noise(3, 0), q.bucket_noise(3, 1)
    assert (first.shape, second.shape) == (q.params[0].shape, q.params[1].shape)
    assert not torch.equal(first.flatten()[:40], second)
