"""Every family, through its own update, against a Gaussian target of its own kind, from noisy scores."""

import pytest
import torch
from torch import Tensor, nn

from hf_scorevi.inference import ClosedFormUpdate, LowRankUpdate, PosteriorUpdate, ProximalSchedule, ScoreStatistic
from hf_scorevi.inference.objective import InnerLoop
from hf_scorevi.posterior import FAMILIES, GaussianPrior, Posterior
from hf_scorevi.posterior.noise import mix

WEIGHT, PRIOR_STD = 50.0, 2.0


def setting(family: str, shape, start: float, rank: int = 2, loop: InnerLoop | None = None):
    """A posterior at zero, and its update under the default schedule."""
    p = nn.Parameter(torch.zeros(shape))
    q = Posterior({"p": p}, FAMILIES[family]([p], [start], rank))
    prior = GaussianPrior([torch.zeros(())], [PRIOR_STD], learn_std=False)
    parts = q, prior, WEIGHT
    schedule = ProximalSchedule()
    update = LowRankUpdate(*parts, schedule) if family == "low_rank" else ClosedFormUpdate(*parts, schedule, loop)
    return q, update


def symmetric(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    noise = torch.randn(shape, generator=generator)
    return (noise + noise.transpose(-2, -1)) / 2


def of_its_kind(family: str, shape, rank: int = 2) -> Tensor:
    """The loss's curvature, dense and positive definite, with eigenvalues of order one and clear correlations."""
    generator = torch.Generator().manual_seed(3)
    n = torch.Size(shape).numel()
    if family == "isotropic":
        return 1.5 * torch.eye(n)
    diagonal = 0.5 + torch.rand(n, generator=generator)
    if family == "diagonal":
        return diagonal.diag()
    if family == "low_rank":
        factor = torch.randn(n, rank, generator=generator)
        return diagonal.diag() + factor @ factor.T
    other = torch.zeros(shape)
    template = FAMILIES[family]([other], [1.0], rank)
    own = template.state()[".factor"][0]
    own.add_(0.5 * torch.randn(own.shape, generator=generator).tril(-1))
    return torch.stack([template.multiply(0, e.view(shape)).flatten() for e in torch.eye(n)]) + 0.5 * torch.eye(n)


def learn(
    q: Posterior, update: PosteriorUpdate, curvature: Tensor, optimum: Tensor, steps: int, noise: float
) -> Tensor:
    """
    Curvature steps at every iteration, on batches whose gradient and curvature are both noisy. The mean, which a
    user's optimizer moves in the trainer, takes natural steps here, averaged as the curvature is.
    """
    (p,), generator = q.params, torch.Generator().manual_seed(11)
    covariance = torch.linalg.inv(WEIGHT * curvature + torch.eye(len(curvature)) / PRIOR_STD**2)
    for step in range(steps):
        batch = curvature + noise * symmetric(tuple(curvature.shape), generator)
        offset = 0.5 * noise * torch.randn(len(curvature), generator=generator)

        statistic, seed = ScoreStatistic(q, True, update.known()), mix(5, step)
        p.grad = torch.zeros_like(p)
        statistic.before(seed)
        with q.sampled(seed) as draw:
            p.grad += (batch @ (p.detach().flatten() - optimum) + offset).view(p.shape)
            statistic.between(seed)
            draw.flip_()
            p.grad += (batch @ (p.detach().flatten() - optimum) + offset).view(p.shape)
        statistic.after(seed, 1.0)
        with torch.no_grad():
            score = (WEIGHT * p.grad / 2 + p / PRIOR_STD**2).flatten()
            p -= 4 / (step + 8) * (covariance @ score).view(p.shape)
        update.step(statistic.curvature(1.0), 0.0)
    return p.detach().flatten()


def dense(q: Posterior) -> Tensor:
    (p,) = q.params
    return torch.stack([q.family.multiply(0, e.view(p.shape)).flatten() for e in torch.eye(p.numel())]).double()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_target_of_its_own_kind(family):
    shape = (3, 6)
    curvature = of_its_kind(family, shape)
    target = (WEIGHT * curvature + torch.eye(18) / PRIOR_STD**2).double()
    pull = torch.linspace(-1, 1, 18)
    expected_mean = torch.linalg.solve(target, WEIGHT * curvature.double() @ pull.double())
    q, update = setting(family, shape, start=1e4)
    mean = learn(q, update, curvature, pull, 750, noise=0.05)
    got = dense(q)
    # Each entry averages 7/16 of 750 estimates whose noise is .05·√18 of the curvature: 1.2 %.
    assert (got - target).norm() < 0.02 * target.norm()
    # The mean averages as many gradients with a noise of .025·50/√λ, about .15 posterior sds: .008.
    std = torch.linalg.inv(target).diagonal().sqrt()
    assert ((mean - expected_mean) / std).square().mean().sqrt() < 0.02


def test_low_rank_finds_a_target_that_a_diagonal_cannot():
    """
    D = 200, eight directions a hundred times stiffer than the rest: within a tenth of a nat of the target, 195 from
    where the best diagonal is, and never a matrix of its size.
    """
    shape = (10, 20)
    curvature = of_its_kind("low_rank", shape, rank=8)
    target = (WEIGHT * curvature + torch.eye(200) / PRIOR_STD**2).double()
    q, update = setting("low_rank", shape, start=1e4, rank=8)
    learn(q, update, curvature, torch.linspace(-1, 1, 200), 1000, noise=0.016)

    def reverse_kl(precision: Tensor) -> float:
        trace = torch.trace(torch.linalg.solve(precision, target))
        return 0.5 * (trace - 200 + precision.logdet() - target.logdet()).item()

    assert reverse_kl(target.diagonal().diag()) > 100
    assert reverse_kl(dense(q)) < 0.2
