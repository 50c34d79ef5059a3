"""One battery over all families: each is compared with the dense Gaussian that it stands for."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from hf_scorevi.posterior import FAMILIES, Posterior, PosteriorConfig

ALL = sorted(FAMILIES)
SHAPES = ((4, 6), (7, 3), (5,), (3, 2, 2))


def posterior(family: str, seed: int = 0, shapes=SHAPES, rank: int = 2) -> Posterior:
    """A posterior whose precisions are not those of its start."""
    generator = torch.Generator().manual_seed(seed)
    params = {f"p{i}": nn.Parameter(torch.randn(size, generator=generator)) for i, size in enumerate(shapes)}
    precision = [4.0 * (i + 1) for i in range(len(shapes))]
    q = Posterior(params, FAMILIES[family](list(params.values()), precision, rank))
    with torch.no_grad():
        for _, suffix, value in q.state():
            noise = torch.rand(value.shape, generator=generator)
            if suffix == ".factor" and family != "low_rank":
                value.copy_((value + noise * value.diagonal(dim1=-2, dim2=-1)[..., None]).tril())
            elif suffix == ".factor":
                value.add_(noise)
            else:
                value.mul_(0.5 + noise)
    return q


def dense(q: Posterior, i: int) -> Tensor:
    """Λ of tensor i, float64, from `multiply` on unit vectors."""
    shape = q.params[i].shape
    columns = [q.family.multiply(i, e.view(shape)).flatten() for e in torch.eye(shape.numel())]
    return torch.stack(columns).double()


def reference(q: Posterior, i: int) -> MultivariateNormal:
    return MultivariateNormal(q.params[i].detach().double().flatten(), precision_matrix=dense(q, i))


@pytest.mark.parametrize("family", ALL)
def test_the_precision_is_symmetric_and_of_the_familys_kind(family):
    q = posterior(family)
    for i, p in enumerate(q.params):
        matrix = dense(q, i)
        torch.testing.assert_close(matrix, matrix.T, rtol=1e-5, atol=1e-5)
        off = matrix - matrix.diagonal().diag()
        if family in ("isotropic", "diagonal"):
            assert not off.any()
        if family == "low_rank":
            diagonal = q.family.precision[i].double().flatten().diag()
            assert torch.linalg.matrix_rank(matrix - diagonal, atol=1e-4) == min(2, p.numel())
        if family == "full":
            assert (off != 0).sum() == off.numel() - len(off)


def test_blocks_lie_along_the_smaller_side():
    """A (4, 6) weight has a 4×4 block for each of its 6 columns; a (7, 3) one a 3×3 block for each row."""
    q = posterior("block_diagonal")
    first = dense(q, 0).view(4, 6, 4, 6)
    assert not first[:, 0, :, 1].any() and (first[:, 2, :, 2] != 0).all()
    second = dense(q, 1).view(7, 3, 7, 3)
    assert not second[0, :, 1, :].any() and (second[5, :, 5, :] != 0).all()
    assert not (dense(q, 2) - dense(q, 2).diagonal().diag()).any()
    assert dense(q, 3).view(3, 4, 3, 4)[:, 1, :, 1].all()


@pytest.mark.parametrize("family", ALL)
def test_sampling_has_the_covariance(family):
    """A draw is linear in ε: A ε with A Aᵀ = Λ⁻¹."""
    q = posterior(family)
    for i, p in enumerate(q.params):
        columns = []
        for unit in torch.eye(p.numel()):
            noise = unit.view(p.shape).clone()
            q.family.scale_noise_([noise], [i])
            columns.append(noise.flatten())
        root = torch.stack(columns, 1).double()
        torch.testing.assert_close(root @ root.T, torch.linalg.inv(dense(q, i)), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", ALL)
def test_draws_in_the_model(family):
    q = posterior(family)
    mean = [p.detach().clone() for p in q.params]
    with q.sampled(3) as draw:
        plus = [p.detach().clone() for p in q.params]
        draw.flip_()
        minus = [p.detach().clone() for p in q.params]
    for p, m, a, b in zip(q.params, mean, plus, minus, strict=True):
        assert torch.equal(p, m) and not torch.equal(a, m)
        torch.testing.assert_close(a + b, 2 * m, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ALL)
def test_score_density_and_entropy(family):
    q = posterior(family)
    with q.sampled(1):
        values = [p.detach().clone() for p in q.params]
    scores, log_prob, entropy = q.score(values), 0.0, 0.0
    for i, value in enumerate(values):
        leaf = value.double().flatten().requires_grad_()
        value_log_prob = reference(q, i).log_prob(leaf)
        (expected,) = torch.autograd.grad(value_log_prob, leaf)
        torch.testing.assert_close(scores[i].double().flatten(), expected, rtol=1e-4, atol=1e-4)
        log_prob += value_log_prob.item()
        entropy += reference(q, i).entropy().item()
    assert q.log_prob(values) == pytest.approx(log_prob, abs=1e-3)
    assert q.entropy() == pytest.approx(entropy, abs=1e-3)


@pytest.mark.parametrize("family", ALL)
def test_kl(family):
    a, b = posterior(family, 0), posterior(family, 1)
    expected = sum(kl_divergence(reference(a, i), reference(b, i)).item() for i in range(len(SHAPES)))
    assert a.kl(b) == pytest.approx(expected, rel=1e-4)
    assert a.kl(a) == pytest.approx(0, abs=1e-3)


def test_kl_between_families_is_refused():
    with pytest.raises(ValueError, match="isotropic to a full posterior is not implemented"):
        posterior("isotropic").kl(posterior("full"))


@pytest.mark.parametrize("family", ALL)
def test_figures_of_single_weights(family):
    q = posterior(family)
    for i, p in enumerate(q.params):
        matrix = dense(q, i)
        expected = matrix.diagonal().view(p.shape)
        torch.testing.assert_close(q.family.diagonal(i).double().expand(p.shape), expected, rtol=1e-4, atol=0)
        torch.testing.assert_close(q.precision[q.names[i]].double().expand(p.shape), expected, rtol=1e-4, atol=0)
        variance = torch.linalg.inv(matrix).diagonal().view(p.shape)
        torch.testing.assert_close(q.family.variance(i).double().expand(p.shape), variance, rtol=1e-3, atol=0)
        assert q.family.mean_variance(i) == pytest.approx(variance.mean().item(), rel=1e-4)
        assert q.family.log_det(i) == pytest.approx(matrix.logdet().item(), rel=1e-5)


def own_kind(q: Posterior, i: int) -> tuple[Tensor, Tensor]:
    """A curvature of the family's kind: as a dense matrix, and in the form that `known_part` takes."""
    n = q.params[i].numel()
    generator = torch.Generator().manual_seed(9)
    if q.family.name == "isotropic":
        return 3.0 * torch.eye(n), torch.tensor(3.0).double()
    if q.family.name == "diagonal":
        values = torch.rand(q.params[i].shape, generator=generator)
        return values.flatten().diag(), values
    if q.family.name == "low_rank":
        return 0.5 * dense(q, i).float() + 2 * torch.eye(n), torch.tensor([0.5, 2.0]).double()
    other = posterior(q.family.name, 5)
    return dense(other, i).float(), other.family.as_curvature(i)


@pytest.mark.parametrize("family", ALL)
def test_the_known_part_is_all_the_noise_of_a_curvature_of_its_own_kind(family):
    """Stein's identity, and that the control variate leaves none of its noise: every sample gives the curvature."""
    q = posterior(family)
    for i, p in enumerate(q.params):
        matrix, known = own_kind(q, i)
        estimates = []
        for seed in range(2):
            (noise,) = (e.clone() for e in q.bucket_noise(seed, 0)[i : i + 1])
            step = noise.clone()
            q.family.scale_noise_([step], [i])
            gradient = (matrix @ step.flatten()).view(p.shape)
            (part,) = q.family.known_part([noise], [i], [known])
            (statistic,) = q.family.correlate([gradient], [noise.clone()], [i])
            estimates.append(q.family.curvature(i, statistic - part, p.device))
        torch.testing.assert_close(estimates[0], estimates[1], rtol=2e-3, atol=2e-3)
        if family == "low_rank":
            sigma = torch.linalg.inv(dense(q, i)).float()
            expected = torch.cat(
                [(sigma @ matrix @ sigma).diagonal()[:, None], matrix @ sigma @ q.family.factor[i]], 1
            )
        else:
            expected = known.to(estimates[0])
        torch.testing.assert_close(estimates[0], expected, rtol=2e-3, atol=2e-3)
        applied = q.family.apply(i, known, torch.ones(p.shape))
        torch.testing.assert_close(applied.flatten(), matrix.sum(1), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("family", ALL)
def test_steins_identity_in_the_mean(family):
    """Over many draws, without a control variate, within five standard errors."""
    q = posterior(family, shapes=((2, 3),))
    matrix, known = own_kind(q, 0) if family in ("isotropic", "diagonal", "low_rank") else (None, None)
    if matrix is None:
        other = posterior(family, 5, shapes=((2, 3),))
        matrix, known = dense(other, 0).float(), other.family.as_curvature(0)
    if family == "low_rank":
        sigma = torch.linalg.inv(dense(q, 0)).float()
        known = torch.cat([(sigma @ matrix @ sigma).diagonal()[:, None], matrix @ sigma @ q.family.factor[0]], 1)
    draws = []
    for seed in range(4000):
        noise = q.bucket_noise(seed, 0)
        step = [noise[0].clone()]
        q.family.scale_noise_(step, [0])
        gradient = (matrix @ step[0].flatten()).view(2, 3)
        (statistic,) = q.family.correlate([gradient], [noise[0].clone()], [0])
        draws.append(q.family.curvature(0, statistic.clone(), gradient.device))
    stacked = torch.stack(draws).double()
    error = stacked.std(0) / len(stacked) ** 0.5
    assert ((stacked.mean(0) - known.double()).abs() < 5 * error + 1e-6).all()


@pytest.mark.parametrize("family", ALL)
def test_a_tensor_without_a_gradient_has_no_curvature(family):
    q = posterior(family)
    zero = q.family.curvature(0, None, torch.device("cpu"))
    (noise,) = q.bucket_noise(0, 0)[:1]
    (statistic,) = q.family.correlate([torch.zeros(SHAPES[0])], [noise.clone()], [0])
    assert zero.shape == statistic.shape and not zero.any()


@pytest.mark.parametrize("family", ALL)
def test_state_is_live_complete_and_checked(family):
    a, b = posterior(family, 0), posterior(family, 1)
    for (_, suffix, own), (_, _, other) in zip(b.state(), a.state(), strict=True):
        assert a.family.damage(suffix, other) is None
        own.copy_(other)
    for i in range(len(SHAPES)):
        assert torch.equal(dense(a, i), dense(b, i))
    suffix = ".factor" if family in ("full", "block_diagonal") else ""
    value = a.family.state()[suffix][0]
    assert a.family.damage(suffix, -value) is not None
    if suffix:
        assert "triangular" in (a.family.damage(suffix, value + 0.1 * value.abs().amax()) or "")


@pytest.mark.parametrize("family", ["isotropic", "diagonal"])
def test_isotropic_and_diagonal_draw_the_same_weights_from_the_same_precision(family):
    config = PosteriorConfig(family=family)
    params = {"a": nn.Parameter(torch.ones(3, 4)), "b": nn.Parameter(torch.ones(5))}
    q, other = (Posterior.initialise(params, c) for c in (config, PosteriorConfig(family="full")))
    noise = q.bucket_noise(5, 0), other.bucket_noise(5, 0)
    for p, values in zip((q, other), noise, strict=True):
        p.family.scale_noise_(values, [0, 1])
    for x, y in zip(*noise, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("family", "shape", "message"),
    [
        ("block_diagonal", (100, 65), "big.weight: a block_diagonal posterior .* 65×65 blocks; it is made for LoRA"),
        ("full", (64, 65), "big.weight: a full posterior .* 4160×4160 matrix.*choose family='low_rank'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(family, shape, message):
    with pytest.raises(ValueError, match=message):
        Posterior.initialise({"big.weight": nn.Parameter(torch.ones(shape))}, PosteriorConfig(family=family))


def test_low_rank_has_no_more_columns_than_weights_and_starts_almost_isotropic():
    q = Posterior.initialise({"a": nn.Parameter(torch.ones(3))}, PosteriorConfig(family="low_rank", rank=8))
    assert q.family.factor[0].shape == (3, 3)
    expected = 1e4 * 3
    assert dense(q, 0).trace().item() == pytest.approx(expected, rel=0.1)
    assert math.isfinite(q.entropy())
