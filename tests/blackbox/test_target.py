import pytest
import torch

from hf_scorevi.blackbox.target import Target
from tests.blackbox.targets import funnel, random_gaussian


def test_score_by_differentiation_and_count():
    q = random_gaussian(3)
    target = Target(q.log_prob, None, 3)
    x = q.sample(5, seed=0)
    torch.testing.assert_close(target.score(x), q.score(x), rtol=1e-10, atol=1e-10)
    assert target.evaluations == 5
    target.log_prob(x)
    assert target.evaluations == 5  # the monitor's evaluations are not counted
    with torch.no_grad():
        assert target.score(x).isfinite().all()


def test_a_function_may_change_its_input():
    def score(x):
        return x.mul_(-1)

    x = torch.ones(2, 3).double()
    assert torch.equal(Target(None, score, 3).score(x), -x)


@pytest.mark.parametrize("dim", [0, -1, 2.0, True])
def test_dim(dim):
    with pytest.raises(ValueError, match="dim is the number of parameters"):
        Target(funnel, None, dim)


def test_neither_function():
    with pytest.raises(ValueError, match="Give log_prob, or score"):
        Target(None, None, 2)


def test_wrong_results():
    x = torch.ones(4, 3).double()
    with pytest.raises(ValueError, match=r"score must return shape \(4, 3\).*not \(4,\)"):
        Target(None, lambda x: x.sum(1), 3).score(x)
    with pytest.raises(ValueError, match=r"log_prob must return shape \(4,\).*not \(\)"):
        Target(lambda x: x.sum(), None, 3).score(x)
    with pytest.raises(TypeError, match=r"score must return a torch.Tensor, not ndarray"):
        Target(None, lambda x: x.numpy(), 3).score(x)
    with pytest.raises(ValueError, match="differentiable torch operations"):
        Target(lambda x: x.detach().sum(1), None, 3).score(x)
