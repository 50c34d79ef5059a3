import math

import numpy as np
import pytest
import torch

from hf_scorevi.inference import gradient_update, mean_step, precision_ratio_with_shift, proximal_objective
from hf_scorevi.inference.objective import gaussian_kl

D = 5


@pytest.fixture
def setting():
    """A frozen iterate, one of its samples, and a noisy score there, in double precision."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    return draw(D), draw(D).exp(), draw(1, D), draw(1, D) * 3


def stl_gradients(mean, log_std, noise, scores):
    """∇(m, log σ) of the sticking-the-landing negative ELBO at one sample, by autograd through the sample."""
    mean, log_std = mean.clone().requires_grad_(), log_std.clone().requires_grad_()
    theta = mean + log_std.exp() * noise
    frozen = torch.distributions.Normal(mean.detach(), log_std.detach().exp())
    # log p enters through its score alone: a linear function with that gradient
    loss = frozen.log_prob(theta).sum() - (scores * theta).sum()
    return torch.autograd.grad(loss, (mean, log_std))


@pytest.mark.parametrize("isotropic", [False, True])
def test_at_the_frozen_iterate_the_gradient_is_sticking_the_landing(setting, isotropic):
    """2 times for the mean, 4 times for log σ, sample by sample, whatever κ and direction."""
    mean, precision, noise, scores = setting
    if isotropic:
        precision = precision.mean()
    std = precision**-0.5
    by_mean, by_log_std = stl_gradients(mean, std.log().expand(D), noise[0], scores[0])
    for proximal in ("forward", "reverse"):
        m = mean.clone().requires_grad_()
        log_std = std.log().clone().requires_grad_()
        loss = proximal_objective(
            m, (-2 * log_std).exp(), mean, precision, mean + std * noise, scores, 3.0, "precision", proximal
        )
        got_mean, got_log_std = torch.autograd.grad(loss, (m, log_std))
        assert torch.allclose(got_mean, 2 * by_mean, rtol=1e-12, atol=1e-12)
        expected = by_log_std.sum() if isotropic else by_log_std
        assert torch.allclose(got_log_std, 4 * expected, rtol=1e-12, atol=1e-12)


def test_the_penalty_is_flat_at_the_frozen_iterate(setting):
    mean, precision, _, _ = setting
    m, lam = mean.clone().requires_grad_(), precision.clone().requires_grad_()
    for kl in (gaussian_kl(mean, precision, m, lam), gaussian_kl(m, lam, mean, precision)):
        assert kl.item() == pytest.approx(0, abs=1e-14)
        assert all(g.abs().max() < 1e-14 for g in torch.autograd.grad(kl, (m, lam)))


# The trapezoidal rule converges exponentially for smooth integrands that vanish at both ends.
NODES = np.linspace(-9, 9, 6001)
PROBABILITIES = np.exp(-0.5 * NODES**2) / np.exp(-0.5 * NODES**2).sum()


def quadrature(mean, precision, score):
    """Samples, scores and probabilities whose sums are exact expectations under N(mean, 1/precision)."""
    samples = mean + torch.tensor(NODES)[:, None] / precision.sqrt()
    return samples, score(samples), torch.tensor(PROBABILITIES)


def gaussian_score(theta):
    return -4.0 * (theta - 1.5)


def test_many_inner_steps_reach_the_exact_step():
    mean, precision, kappa = torch.zeros(1).double(), torch.full((1,), 2.0).double(), 0.7
    samples, scores, probabilities = quadrature(mean, precision, gaussian_score)
    noise = (samples - mean) * precision.sqrt()
    g = (probabilities @ scores) / precision.sqrt()
    h = -(probabilities @ (scores * noise)) / precision.sqrt()
    a = precision_ratio_with_shift(h, g, kappa)
    expected_mean = mean + mean_step(g, a, kappa) / precision.sqrt()
    got = gradient_update(
        mean, precision, samples, scores, kappa, 4000, 0.02, torch.optim.SGD, probabilities=probabilities
    )
    assert got[0].item() == pytest.approx(expected_mean.item(), abs=1e-8)
    assert got[1].item() == pytest.approx((a * precision).item(), rel=1e-8)


def mixture_score(theta):
    """.7 N(−1, .4²) + .3 N(1.5, .6²)."""
    components = torch.distributions.Normal(torch.tensor([-1.0, 1.5]).double(), torch.tensor([0.4, 0.6]).double())
    logits = components.log_prob(theta) + torch.tensor([0.7, 0.3]).double().log()
    pull = -(theta - components.loc) / components.scale**2
    return (logits.softmax(-1) * pull).sum(-1, keepdim=True)


def elbo_optimum(mean, variance):
    """The ELBO's stationary point near a start, from scipy on a quadrature of its own."""
    from scipy.optimize import minimize

    x, w = NODES, PROBABILITIES

    def negative(parameters):
        theta = parameters[0] + math.exp(parameters[1]) * x
        log_p = np.logaddexp(
            np.log(0.7) - 0.5 * ((theta + 1) / 0.4) ** 2 - np.log(0.4),
            np.log(0.3) - 0.5 * ((theta - 1.5) / 0.6) ** 2 - np.log(0.6),
        )
        return -(w @ log_p) - parameters[1]

    best = minimize(negative, [mean, 0.5 * math.log(variance)], method="Nelder-Mead",
                    options={"xatol": 1e-9, "fatol": 1e-15, "maxiter": 4000})  # fmt: skip
    return best.x[0], math.exp(2 * best.x[1])


@pytest.mark.parametrize(("start", "known"), [((0.1, 1.3), (0.13251, 1.31037)), ((-1.0, 0.2), (-0.98724, 0.17341))])
@pytest.mark.parametrize("kappa", [1.0, 10.0])
@pytest.mark.parametrize("norm", ["precision", "none"])
@pytest.mark.parametrize("proximal", ["forward", "reverse"])
def test_fixed_points_are_the_elbo_s(start, known, kappa, norm, proximal):
    """Both local optima, whatever the proximal weight, its direction and the norm."""
    mean, variance = elbo_optimum(*start)
    assert (mean, variance) == (pytest.approx(known[0], abs=1e-5), pytest.approx(known[1], abs=1e-5))
    m, lam = torch.tensor([mean]).double(), torch.tensor([1 / variance]).double()
    samples, scores, probabilities = quadrature(m, lam, mixture_score)
    q = m.clone().requires_grad_(), lam.clone().requires_grad_()
    loss = proximal_objective(*q, m, lam, samples, scores, kappa, norm, proximal, probabilities)
    assert all(gradient.abs().max() < 1e-5 for gradient in torch.autograd.grad(loss, q))


@pytest.mark.parametrize("noise_variance", [0.0, 0.25, 1.0, 4.0])
def test_noisy_scores_do_not_move_the_fixed_point(noise_variance):
    """
    1-D standard normal, score noise of variance ν: the gradient at the truth has mean zero.

    BaM's fixed point would be at variance [−ν + √(ν² + 4)]/2, .236 for ν = 4, where our gradient is far from zero.
    """
    generator = torch.Generator().manual_seed(0)
    n = 400_000
    noise = torch.randn(n, 1, generator=generator).double()
    scores = -noise + noise_variance**0.5 * torch.randn(n, 1, generator=generator).double()
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    log_std = torch.zeros(1).double().requires_grad_()
    loss = proximal_objective(zero, (-2 * log_std).exp(), zero, one, noise, scores, 1.0)
    (gradient,) = torch.autograd.grad(loss, log_std)
    error = 4 * math.sqrt(noise_variance / n)  # of 4·mean(ε·noise)
    assert gradient.item() == pytest.approx(0, abs=4 * error + 1e-12)


def test_bad_samples_are_refused_and_nothing_is_changed():
    mean, precision = torch.zeros(2), torch.ones(2)
    samples = torch.zeros(3, 2)
    with pytest.raises(ValueError, match="not finite; reject"):
        gradient_update(mean, precision, samples, samples * float("nan"), 1.0)
    with pytest.raises(ValueError, match=r"must both have shape \(B, 2\)"):
        gradient_update(mean, precision, samples, samples[:, :1], 1.0)
    with pytest.raises(ValueError, match="Unknown norm 'fisher'"):
        gradient_update(mean, precision, samples, samples, 1.0, norm="fisher")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Unknown proximal 'both'"):
        gradient_update(mean, precision, samples, samples, 1.0, proximal="both")  # type: ignore[arg-type]
    assert torch.equal(mean, torch.zeros(2)) and torch.equal(precision, torch.ones(2))
