import pytest
import torch
from torch.distributions import Normal, kl_divergence

from hf_scorevi import PosteriorConfig
from hf_scorevi.inference.update import mean_square_shift
from hf_scorevi.posterior import FAMILIES, GaussianPrior, Posterior, kl_to_prior, posterior_figures


@pytest.fixture
def setting():
    torch.manual_seed(0)
    params = {"a": torch.nn.Parameter(torch.randn(6, 5)), "b": torch.nn.Parameter(torch.randn(7))}
    values = list(params.values())
    prior = GaussianPrior([torch.randn(6, 5), torch.zeros(())], [0.7, 1.3], learn_std=True)
    family = FAMILIES["diagonal"](values, [1.0, 1.0], 8)
    for precision in family.precision:
        precision.uniform_(0.5, 20)
    return Posterior(params, family), prior


def test_gradient_is_that_of_the_log_density(setting):
    q, prior = setting
    log_p = sum(
        Normal(mean, std).log_prob(p).sum() for p, mean, std in zip(q.params, prior.mean, prior.std, strict=True)
    )
    expected = torch.autograd.grad(-0.25 * log_p, q.params)
    grads = [torch.ones_like(p) for p in q.params]
    with torch.no_grad():
        prior.add_gradient_(grads, q.params, [0, 1], factor=0.25)
    for got, want in zip(grads, expected, strict=True):
        assert torch.allclose(got, 1 + want, atol=1e-6)


def test_kl_agrees_with_torch_distributions(setting):
    q, prior = setting
    expected = sum(
        kl_divergence(Normal(p.double(), precision.double() ** -0.5), Normal(mean.double(), std)).sum().item()
        for p, precision, mean, std in zip(q.params, q.family.precision, prior.mean, prior.std, strict=True)
    )
    assert kl_to_prior(q, prior, mean_square_shift(q, prior)) == pytest.approx(expected, rel=1e-6)


def test_empirical_bayes_maximises_its_objective(setting):
    """The closed form is where −KL(q‖p) plus the log density of the inverse-gamma prior on σ² is largest."""
    _, prior = setting
    variance, shift, n = 0.3, 0.9, 50

    def objective(std: float) -> float:
        kl = 0.5 * n * ((variance + shift) / std**2 + torch.log(torch.tensor(std**2)).item())
        inverse_gamma = -0.5 * n * (prior.initial_std[0] ** 2 / std**2 + torch.log(torch.tensor(std**2)).item())
        return -kl + inverse_gamma

    prior.update_std([variance, variance], [shift, shift])
    best = prior.std[0]
    assert best**2 == pytest.approx(0.5 * (0.7**2 + variance + shift))
    assert objective(best) > max(objective(best * 1.01), objective(best / 1.01))


def test_empirical_bayes_cannot_collapse(setting):
    _, prior = setting
    for _ in range(1000):
        prior.update_std([1e-12, 1e-12], [0.0, 0.0])
    assert prior.std == pytest.approx([0.7 / 2**0.5, 1.3 / 2**0.5])


def test_a_state_comes_back(setting):
    q, prior = setting
    prior.update_std([0.3, 0.2], [0.9, 0.1])
    other = GaussianPrior([torch.zeros(6, 5), torch.ones(7)], [1.0, 1.0], learn_std=True)
    state = {name: value.clone() for name, value in prior.state_dict(q).items()}
    other.load_state_dict(state, q)
    assert (other.std, other.initial_std) == (prior.std, prior.initial_std) and prior.std != prior.initial_std
    assert all(torch.equal(a, b) for a, b in zip(other.mean, prior.mean, strict=True))
    state["mean.0"].zero_()  # the prior has its own copy
    assert torch.equal(other.mean[0], prior.mean[0])


def test_a_state_with_a_missing_tensor_changes_nothing(setting):
    q, prior = setting
    other = GaussianPrior([torch.zeros(6, 5), torch.ones(7)], [1.0, 1.0], learn_std=True)
    state = prior.state_dict(q)
    del state["mean.1"]
    with pytest.raises(KeyError, match=r"mean\.1"):
        other.load_state_dict(state, q)
    assert other.std == [1.0, 1.0] and not other.mean[0].any()


def test_a_fixed_std_stays():
    prior = GaussianPrior([torch.zeros(())], [0.3], learn_std=False)
    prior.update_std([5.0], [5.0])
    assert prior.std == [0.3]


def test_figures_of_a_known_posterior():
    params = {"a": torch.nn.Parameter(torch.full((100,), 2.0)), "b": torch.nn.Parameter(torch.full((300,), 1.0))}
    q = Posterior.initialise(params, PosteriorConfig(init_std=0.1))
    prior = GaussianPrior([torch.zeros(()), torch.zeros(())], [0.2, 5.0], learn_std=False)
    figures = posterior_figures(q, prior)
    assert figures["std_relative_mean"] == pytest.approx(0.1, rel=1e-6)
    assert figures["std_relative_spread"] == pytest.approx(0, abs=1e-4)
    assert figures["share_at_prior"] == pytest.approx(0.25)
