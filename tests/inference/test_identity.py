"""
The analogue of the sticking-the-landing identity for every family.

At q = q_t the gradient of the score-matching objective E_{q_t}‖∇log q(θ) − ŝ‖²_{Σ_t} by q's parameters is, on average
over samples, 4 times the negative ELBO's by whatever makes up Λ, and 2 times by the mean. For a Gaussian target both
are exact on a quadrature whose second moments are q_t's. (Sample by sample: tests/inference/test_objective.py for
isotropic and diagonal, tests/blackbox/test_gradient.py for dense blocks.)
"""

import pytest
import torch
from torch import Tensor, nn

from hf_scorevi.inference import ScoreStatistic
from hf_scorevi.posterior import FAMILIES, Posterior

SHAPE, D = (3, 4), 12


def blocks(family: str, factor: Tensor) -> Tensor:
    """The dense Λ of R, (n, r, r): for block_diagonal over a (3, 4) weight a 3×3 block for each column."""
    if family == "full":
        return factor[0] @ factor[0].T
    matrix = factor @ factor.transpose(-2, -1)
    dense = torch.einsum("nij,nm->injm", matrix, torch.eye(len(factor)).double())
    return dense.reshape(D, D)


def precision_matrix(family: str, state: list[Tensor]) -> Tensor:
    """Λ from the family's own tensors, differentiable."""
    if family == "isotropic":
        return state[0] * torch.eye(D).double()
    if family == "diagonal":
        return state[0].flatten().diag()
    if family == "low_rank":
        return state[0].flatten().diag() + state[1] @ state[1].T
    return blocks(family, state[0])


def setting(family: str):
    """A posterior off its start, float64 copies of its tensors, and a Gaussian target."""
    generator = torch.Generator().manual_seed(4)
    p = nn.Parameter(torch.randn(SHAPE, generator=generator))
    q = Posterior({"p": p}, FAMILIES[family]([p], [2.0], 2))
    for _, suffix, value in q.state():
        noise = 0.3 * torch.rand(value.shape, generator=generator)
        value.add_(noise.tril() if suffix == ".factor" and family != "low_rank" else noise)
    root = torch.randn(D, D, generator=generator, dtype=torch.float64)
    return (
        q,
        [value.double() for *_, value in q.state()],
        root @ root.T + torch.eye(D),
        torch.randn(D, generator=generator, dtype=torch.float64),
    )


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_objectives_gradient_is_four_times_the_elbos(family):
    q, state, target, optimum = setting(family)
    mean = q.params[0].detach().double().flatten()
    leaves = [value.clone().requires_grad_() for value in state]
    centre = mean.clone().requires_grad_()
    precision = precision_matrix(family, leaves)
    frozen = precision.detach()
    covariance = torch.linalg.inv(frozen)

    # −ELBO = KL(q‖p) up to a constant.
    shift = centre - optimum
    kl = 0.5 * (torch.trace(torch.linalg.solve(precision, target)) + shift @ target @ shift + precision.logdet())
    elbo = torch.autograd.grad(kl, [*leaves, centre], retain_graph=True)

    root = torch.linalg.cholesky(covariance) * D**0.5
    samples = mean + torch.cat([root.T, -root.T])
    residual = -(samples - centre) @ precision + (samples - optimum) @ target
    objective = ((residual @ covariance) * residual).sum(1).mean()
    got = torch.autograd.grad(objective, [*leaves, centre])
    for own, expected in zip(got[:-1], elbo[:-1], strict=True):
        if family in ("block_diagonal", "full"):
            own, expected = own.tril(), expected.tril()
        torch.testing.assert_close(own, 4 * expected, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(got[-1], 2 * elbo[-1], rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_statistic_holds_the_elbos_gradient(family):
    """
    The library's float32 statistic, averaged over antithetic draws, gives what the ELBO's gradient by Λ asks for: the
    target's curvature in the family's form.
    """
    q, state, target, optimum = setting(family)
    (p,) = q.params
    dense = precision_matrix(family, state)
    estimates = []
    for seed in range(3000):
        statistic = ScoreStatistic(q, True)
        p.grad = torch.zeros_like(p)
        statistic.before(seed)
        with q.sampled(seed) as draw:
            p.grad += (target @ (p.detach().double().flatten() - optimum)).view(SHAPE).float()
            statistic.between(seed)
            draw.flip_()
            p.grad += (target @ (p.detach().double().flatten() - optimum)).view(SHAPE).float()
        statistic.after(seed, 1.0)
        estimates.append(statistic.curvature(1.0)[0].double())
    stacked = torch.stack(estimates)
    error = stacked.std(0) / len(stacked) ** 0.5
    sigma = torch.linalg.inv(dense)
    expected = {
        "isotropic": lambda: target.diagonal().mean(),
        "diagonal": lambda: target.diagonal().view(SHAPE),
        "low_rank": lambda: torch.cat([(sigma @ target @ sigma).diagonal()[:, None], target @ sigma @ state[1]], 1),
        "block_diagonal": lambda: torch.einsum("injn->nij", target.view(3, 4, 3, 4)),
        "full": lambda: target[None],
    }[family]()
    assert ((stacked.mean(0) - expected).abs() < 5 * error + 1e-4).all()
