import pytest
import torch
from torch.distributions import Normal, kl_divergence

from hf_scorevi.inference import ElboUpdate, ScoreStatistic
from hf_scorevi.posterior import FAMILIES, GaussianPrior, Posterior

CURVATURE = torch.tensor([1.0, 2.0, 5.0])
WEIGHT, PRIOR_STD = 40.0, 0.7


def setting(family: str, precision) -> tuple[Posterior, GaussianPrior]:
    p = torch.nn.Parameter(torch.tensor([0.3, -0.2, 0.5]))
    q = Posterior({"p": p}, FAMILIES[family]([p], [1.0], 8))
    q.family.precision[0].copy_(torch.as_tensor(precision))
    return q, GaussianPrior([torch.zeros(())], [PRIOR_STD], learn_std=False)


def loss(theta: torch.Tensor) -> torch.Tensor:
    return 0.5 * (CURVATURE * (theta - 1).square()).sum()


def estimate(q: Posterior, known, pairs: bool, seed: int) -> torch.Tensor:
    """The statistic of one sample, as a trainer takes it, and the gradient it leaves in .grad."""
    statistic = ScoreStatistic(q, pairs, known)
    q.params[0].grad = None
    statistic.before(seed)
    with q.sampled(seed) as draw:
        loss(q.params[0]).backward()
        if pairs:
            statistic.between(seed)
            draw.flip_()
            loss(q.params[0]).backward()
    statistic.after(seed, share=1.0)
    return statistic.curvature(1.0)[0]


@pytest.mark.parametrize("family", ["isotropic", "diagonal"])
def test_the_gradient_is_autograd_s_sample_by_sample(family):
    """ĥ − 1 is ∂(−ELBO)/∂log σ with an analytic KL; isotropic: the mean of the weights' gradients."""
    q, prior = setting(family, 9.0 if family == "isotropic" else [4.0, 9.0, 30.0])
    update = ElboUpdate(q, prior, WEIGHT, stick_the_landing=False)
    (noise,) = q.bucket_noise(3, 0)
    mean = q.params[0].detach()
    log_std = (-0.5 * q.family.precision[0].log()).expand(3).clone().requires_grad_()
    negative_elbo = WEIGHT * loss(mean + log_std.exp() * noise)
    negative_elbo = negative_elbo + kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, PRIOR_STD)).sum()
    (expected,) = torch.autograd.grad(negative_elbo, log_std)
    curvature = estimate(q, update.known(), pairs=False, seed=3)
    got = (WEIGHT * curvature + prior.precision[0]) / q.family.precision[0] - 1
    assert torch.allclose(got.float(), expected if family == "diagonal" else expected.mean(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pairs", [False, True])
def test_sticking_the_landing_has_no_noise_at_the_optimum(pairs):
    """None in the mean, and for pairs none in log σ; plain ADVI has both."""
    optimum = WEIGHT * CURVATURE + PRIOR_STD**-2
    noise = {}
    for stick in (False, True):
        q, prior = setting("diagonal", optimum)
        update = ElboUpdate(q, prior, WEIGHT, stick_the_landing=stick)
        curvatures, gradients = [], []
        for seed in range(200):
            curvatures.append(estimate(q, update.known(), pairs, seed))
            gradients.append(q.params[0].grad.clone())
        noise[stick] = torch.stack(curvatures).std(0), torch.stack(gradients).std(0)
        if pairs:  # ε² has variance 2
            error = (2 / 200) ** 0.5 * CURVATURE
            assert ((torch.stack(curvatures).mean(0) - CURVATURE).abs() < 4 * error).all()
    assert noise[True][1].max() < 1e-6
    if pairs:
        assert noise[True][0].max() < 1e-4 * CURVATURE.max()
        assert (noise[False][0] > CURVATURE).all()
    else:
        assert (noise[False][1] > 1e-2).all()


def test_steps_lead_to_the_optimum():
    q, prior = setting("diagonal", 400.0)
    update = ElboUpdate(q, prior, WEIGHT, stick_the_landing=True)
    for seed in range(1500):
        update.step([estimate(q, update.known(), True, seed)], learning_rate=0.02 * (1 - seed / 1500))
    assert torch.allclose(q.family.precision[0], WEIGHT * CURVATURE + PRIOR_STD**-2, rtol=1e-3)


def test_non_finite_statistics_change_nothing():
    q, prior = setting("diagonal", 9.0)
    update = ElboUpdate(q, prior, WEIGHT, stick_the_landing=False)
    with pytest.raises(FloatingPointError, match="left as it was"):
        update.step([torch.full((3,), float("nan"))], 0.1)
    assert torch.equal(q.family.precision[0], torch.full((3,), 9.0))
    assert update.steps == 0


def test_state_round_trip_continues_identically():
    a, b = (ElboUpdate(*setting("diagonal", 9.0), WEIGHT, False) for _ in range(2))
    a.step([CURVATURE.clone()], 0.1)
    b.load_state_dict(a.state_dict())
    b.posterior.family.precision[0].copy_(a.posterior.family.precision[0])
    for update in (a, b):
        update.step([2 * CURVATURE], 0.1)
    assert torch.equal(a.posterior.family.precision[0], b.posterior.family.precision[0])
