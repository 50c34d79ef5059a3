import math
import re

import pytest
import torch
from torch import nn

from hf_scorevi import PosteriorConfig
from hf_scorevi.inference import ScoreStatistic
from hf_scorevi.posterior import FAMILIES, Posterior, weight_scales
from hf_scorevi.posterior import posterior as module
from tests.interrupts import interrupted


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


@pytest.mark.parametrize("family", ["isotropic", "low_rank"])
def test_an_interrupt_at_any_point_leaves_the_mean(family):
    q = small(family=family)
    before = [p.detach().clone() for p in q.params]
    inside = []

    def draw():
        with q.sampled(1) as drawn:
            drawn.flip_()
            inside.append(q.params[0].detach().clone())

    draw()
    at = 1
    while interrupted(draw, at):
        assert all(torch.equal(p, b) for p, b in zip(q.params, before, strict=True)), at
        assert not q.drawn and torch.is_grad_enabled(), at
        at += 1
    assert at > 300
    draw()
    assert torch.equal(inside[-1], inside[0])


def test_no_memory_for_the_mean_leaves_it(monkeypatch):
    q = small()
    before = [p.detach().clone() for p in q.params]

    def full(self):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "clone", full)
        with pytest.raises(MemoryError), q.sampled(1):
            pass
    assert not q.drawn
    with q.sampled(1):
        assert not torch.equal(q.params[0], before[0])
    assert all(torch.equal(p, b) for p, b in zip(q.params, before, strict=True))


def test_a_restoring_that_fails_is_tried_again(monkeypatch):
    q = small()
    before = [p.detach().clone() for p in q.params]
    copies = [RuntimeError("interrupted")]
    copy = torch._foreach_copy_
    with pytest.raises(RuntimeError, match="interrupted"), q.sampled(1):
        monkeypatch.setattr(torch, "_foreach_copy_", lambda *args: _raise(copies.pop()) if copies else copy(*args))
    assert all(torch.equal(p, b) for p, b in zip(q.params, before, strict=True))


def _raise(error):
    raise error


def test_what_is_asked_of_q_inside_a_draw_is_about_its_mean():
    q = small(init_std=0.5)
    other = small(init_std=0.4)
    values = [torch.ones_like(p) for p in q.params]
    expected = q.log_prob(values), q.kl(other)
    with q.sampled(1):
        assert (q.log_prob(values), q.kl(other)) == expected
        weights = [torch.empty_like(p) for p in q.params]
        q.draw_(weights, 1)
        assert all(torch.equal(a, b) for a, b in zip(weights, q.params, strict=True))
        with pytest.raises(RuntimeError, match="a draw at the moment, not the mean"):
            q.require_mean()


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


def strided(value: torch.Tensor, layout: str) -> torch.Tensor:
    """The same numbers, laid out otherwise in memory."""
    if layout == "channels_last":
        return value.contiguous(memory_format=torch.channels_last)
    order = range(value.dim() - 1, -1, -1)
    return value.permute(*order).contiguous().permute(*order)


@pytest.mark.parametrize("layout", ["channels_last", "transposed"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_layout_in_memory_changes_no_draw(family, layout):
    """Noise, precision and statistic go by a weight's place in the tensor, not in memory."""
    generator = torch.Generator().manual_seed(0)
    start, gradient = (torch.randn(4, 3, 2, 2, generator=generator) for _ in range(2))
    found = []
    for change in (lambda x: x, lambda x: strided(x, layout)):
        weight = nn.Parameter(change(start.clone()))
        config = PosteriorConfig(family=family, init_std=0.5, rank=2)
        q = Posterior.initialise({"w": weight, "b": nn.Parameter(torch.ones(3))}, config)
        weight.grad = change(gradient.clone())
        statistic = ScoreStatistic(q, pairs=False)
        statistic.after(7, 1.0)
        (curvature, _) = statistic.curvature(1.0)
        with q.sampled(3) as draw:
            plus = weight.detach().clone()
            draw.flip_()
            minus = weight.detach().clone()
        found.append(
            (plus, minus, weight.detach().clone(), q.precision["w"], curvature, *q.score([start + 1, q.params[1]]))
        )
    assert not found[1][2].is_contiguous()
    assert (found[0][0] - start).abs().max() > 0.1
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_weights_that_share_memory_are_named():
    weight = nn.Parameter(torch.ones(1, 3).expand(4, 3))
    with pytest.raises(ValueError, match="w is expanded: its weights share memory"):
        Posterior.initialise({"w": weight}, PosteriorConfig())


@pytest.mark.parametrize(("scale", "init_std"), [(1e-14, 1e-10), (1e14, 1e10)])
def test_a_start_that_float32_cannot_hold_is_refused(scale, init_std):
    weight = nn.Parameter(torch.full((3,), scale))
    said = re.escape(f"w would start with a standard deviation of {scale * init_std:.1e} (init_std={init_std:g} times")
    with pytest.raises(ValueError, match=said):
        Posterior.initialise({"w": weight}, PosteriorConfig(init_std=init_std))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_named(bad):
    params = {"v": nn.Parameter(torch.ones(3)), "w": nn.Parameter(torch.tensor([1.0, bad]))}
    with pytest.raises(ValueError, match="w has weights that are NaN or infinite"):
        Posterior.initialise(params, PosteriorConfig())
