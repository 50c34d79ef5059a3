import pytest
import torch

from hf_scorevi.inference import ClosedFormUpdate, ProximalSchedule
from hf_scorevi.posterior import FAMILIES, GaussianPrior, Posterior

WEIGHTS = 50_000


def make(family: str, kappa: float = 3.0, learn_std: bool = True) -> ClosedFormUpdate:
    p = torch.nn.Parameter(torch.ones(WEIGHTS))
    q = Posterior({"p": p}, FAMILIES[family]([p], [1e4]))
    return ClosedFormUpdate(q, GaussianPrior([torch.zeros(())], [1.0], learn_std), 100.0, ProximalSchedule(kappa))


def shape(family: str) -> tuple[int, ...]:
    return (WEIGHTS,) if family == "diagonal" else ()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_constant_curvature_leads_to_its_precision(family):
    update = make(family, learn_std=False)
    for _ in range(100):
        update.step([torch.full(shape(family), 2.5)], 0.0)
    assert torch.allclose(update.posterior.family.precision[0], torch.tensor(251.0), rtol=1e-5)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_likelihood_never_widens_the_posterior_beyond_the_prior(family):
    """Persistent negative curvature: the floor is the prior's precision."""
    update = make(family, learn_std=False)
    for _ in range(300):
        update.step([torch.full(shape(family), -5.0)], 0.0)
    precision = update.posterior.family.precision[0]
    assert (precision > 0.999).all()
    assert (precision < 1.01).all()


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("kappa", [1e-3, 3.0, 1e3])
def test_a_million_absurd_updates_keep_the_precision_positive_and_finite(family, kappa):
    generator = torch.Generator().manual_seed(0)
    update = make(family, kappa)
    for _ in range(20):
        size = 10 ** (60 * torch.rand(shape(family), generator=generator) - 30)
        sign = torch.randint(-1, 2, shape(family), generator=generator)  # zeros, too
        update.step([size * sign], 0.0)
        precision = update.posterior.family.precision[0]
        assert (precision > 0).all() and precision.isfinite().all()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_nan_raises_and_leaves_everything(family):
    update = make(family)
    for _ in range(3):
        update.step([torch.full(shape(family), 2.0)], 0.0)
    before = {name: value.clone() for name, value in update.state_dict().items()}
    precision = update.posterior.family.precision[0].clone()
    with pytest.raises(FloatingPointError, match="not finite"):
        update.step([torch.full(shape(family), float("nan"))], 0.0)
    assert torch.equal(update.posterior.family.precision[0], precision)
    assert all(torch.equal(value, before[name]) for name, value in update.state_dict().items())


def test_one_estimate_moves_nothing():
    """Its error is not known yet, and one bad estimate must not open a tensor to its prior."""
    update = make("isotropic")
    update.step([torch.tensor(-1e6)], 0.0)
    assert update.posterior.family.precision[0].item() == 1e4
    assert update.known() is None
