import pytest
import torch

from hf_scorevi.predictive import Moments


def test_streamed_moments_are_those_of_all_draws():
    draws = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(0)) * 2 + 1000  # far from zero
    moments = Moments()
    for draw in draws:
        moments.add(draw)
    torch.testing.assert_close(moments.mean.double(), draws.double().mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(moments.variance.double(), draws.double().var(0), rtol=2e-3, atol=0)


def test_one_draw_has_no_variance_and_is_not_changed_later():
    moments, first = Moments(), torch.ones(2)
    moments.add(first)
    assert moments.variance.tolist() == [0.0, 0.0]
    moments.add(torch.tensor([3.0, 1.0]))
    assert first.tolist() == [1.0, 1.0]
    assert moments.mean.tolist() == [2.0, 1.0] and moments.variance.tolist() == [2.0, 0.0]


def test_nothing_added_is_an_error():
    for name in ("mean", "variance"):
        with pytest.raises(ValueError, match="No draw"):
            getattr(Moments(), name)
