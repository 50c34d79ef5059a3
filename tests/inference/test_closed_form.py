import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hf_scorevi.inference import ClosedFormUpdate, InnerLoop, LowRankUpdate, PosteriorUpdate, ProximalSchedule
from hf_scorevi.posterior import FAMILIES, GaussianPrior, Posterior
from hf_scorevi.posterior.families.elementwise import piece_size

WEIGHTS = 50_000
# Tensors, their shape, and how many updates of them make a million updates of single weights; fewer where the same
# arithmetic is the next family's, too: isotropic's is diagonal's, full's is block_diagonal's.
MILLION = {
    "isotropic": (20, (2,), 200),
    "diagonal": (1, (WEIGHTS,), 20),
    "block_diagonal": (1, (4, 5000), 50),
    "low_rank": (1, (5000,), 200),
    "full": (4, (20,), 100),
}


def make(
    family: str, kappa: float = 3.0, learn_std: bool = True, shape=(WEIGHTS,), tensors: int = 1, loop=None
) -> PosteriorUpdate:
    params = {f"p{i}": torch.nn.Parameter(torch.ones(shape)) for i in range(tensors)}
    q = Posterior(params, FAMILIES[family](list(params.values()), [1e4] * tensors, 4))
    prior = GaussianPrior([torch.zeros(())] * tensors, [1.0] * tensors, learn_std)
    if family == "low_rank":
        return LowRankUpdate(q, prior, 100.0, ProximalSchedule(kappa))
    return ClosedFormUpdate(q, prior, 100.0, ProximalSchedule(kappa), loop)


def shape(family: str) -> tuple[int, ...]:
    return (WEIGHTS,) if family == "diagonal" else ()


def precision(update: PosteriorUpdate) -> torch.Tensor:
    return update.posterior.family.diagonal(0)


@pytest.mark.parametrize("family", ["diagonal", "isotropic"])
def test_constant_curvature_leads_to_its_precision(family):
    update = make(family, learn_std=False)
    for _ in range(100):
        update.step([torch.full(shape(family), 2.5)], 0.0)
    assert torch.allclose(precision(update), torch.tensor(251.0), rtol=1e-5)


@pytest.mark.parametrize("family", ["block_diagonal", "full"])
def test_a_constant_matrix_leads_to_its_precision(family):
    update = make(family, learn_std=False, shape=(3, 1) if family == "block_diagonal" else (3,))
    update.posterior.family.factor[0].mul_(0.1)
    matrix = torch.tensor([[3.0, 1.0, -0.5], [1.0, 2.0, 0.3], [-0.5, 0.3, 1.0]])
    one = torch.tensor([[[1.0]]])
    # Where a (3, 1) weight's blocks lie along its one column, they are single weights.
    curvature = matrix[None] if family == "full" else one.repeat(3, 1, 1)
    for _ in range(100):
        update.step([curvature.clone()], 0.0)
    expected = 100 * curvature + torch.eye(curvature.shape[-1])
    torch.testing.assert_close(update.posterior.family.as_curvature(0), expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("family", ["diagonal", "isotropic"])
def test_the_likelihood_never_widens_the_posterior_beyond_the_prior(family):
    """Persistent negative curvature: the floor is the prior's precision."""
    update = make(family, learn_std=False)
    for _ in range(300):
        update.step([torch.full(shape(family), -5.0)], 0.0)
    assert (precision(update) > 0.999).all()
    assert (precision(update) < 1.01).all()


def assert_positive_definite(q: Posterior) -> None:
    for _, suffix, value in q.state():
        assert value.isfinite().all()
        assert q.family.damage(suffix, value) is None
    for i in range(len(q.params)):
        assert (q.family.diagonal(i) > 0).all() and (q.family.variance(i) > 0).all()
    with q.sampled(0):
        assert all(p.isfinite().all() for p in q.params)


@pytest.mark.parametrize("absurd", [False, True])
@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("kappa", [1e-3, 3.0, 1e3])
def test_a_million_updates_keep_the_precision_positive_definite(family, kappa, absurd):
    """Random ones that are mostly noise; or of sizes from 1e−30 to 1e30, zeros among them."""
    generator = torch.Generator().manual_seed(0)
    tensors, size, updates = MILLION[family]
    update = make(family, kappa, shape=size, tensors=tensors)
    template = [update.posterior.family.curvature(i, None, torch.device("cpu")) for i in range(tensors)]
    for _ in range(updates):
        curvature = []
        for form in template:
            noise = 5 * torch.randn(form.shape, generator=generator)
            if absurd:
                magnitude = 10 ** (60 * torch.rand(form.shape, generator=generator) - 30)
                noise = magnitude * torch.randint(-1, 2, form.shape, generator=generator)
            symmetric = form.dim() == 3
            curvature.append(((noise + noise.transpose(-2, -1)) / 2 if symmetric else noise).to(form.dtype))
        update.step(curvature, 0.0)
    assert_positive_definite(update.posterior)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_nan_raises_and_leaves_everything(family):
    update = make(family, shape=(3, 5))
    form = update.posterior.family.curvature(0, None, torch.device("cpu"))
    for _ in range(3):
        update.step([form + 2.0], 0.0)
    before = {name: value.clone() for name, value in update.state_dict().items()}
    state = [value.clone() for _, _, value in update.posterior.state()]
    with pytest.raises(FloatingPointError, match="not finite"):
        update.step([form + float("nan")], 0.0)
    assert all(torch.equal(value, old) for (_, _, value), old in zip(update.posterior.state(), state, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in update.state_dict().items())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_state_round_trip_continues_identically(family):
    a, b = make(family, shape=(3, 5)), make(family, shape=(3, 5))
    form = a.posterior.family.curvature(0, None, torch.device("cpu"))
    for value in (1.0, 2.0, 4.0):
        a.step([form + value], 0.0)
    b.load_state_dict({name: value.clone() for name, value in a.state_dict().items()})
    for (_, _, own), (_, _, other) in zip(b.posterior.state(), a.posterior.state(), strict=True):
        own.copy_(other)
    for update in (a, b):
        update.step([form + 3.0], 0.0)
    for (_, _, x), (_, _, y) in zip(a.posterior.state(), b.posterior.state(), strict=True):
        assert torch.equal(x, y)


def test_one_estimate_moves_nothing():
    """Its error is not known yet, and one bad estimate must not open a tensor to its prior."""
    update = make("isotropic")
    update.step([torch.tensor(-1e6)], 0.0)
    assert precision(update).item() == 1e4
    assert update.known() is None


def test_no_step_leaves_the_trust_region():
    """λ is raised or lowered by no more than KL(q_t‖q) = 1 nat allows, and gets there in the end."""
    update = make("diagonal", kappa=1e-6, learn_std=False)
    for target in (1e9, 1e-3):
        curvature = torch.full((WEIGHTS,), target)
        for _ in range(60):
            old = precision(update).clone()
            update.step([curvature.clone()], 0.0)
            ratio = (precision(update) / old).double()
            assert (0.5 * (ratio - 1 - ratio.log())).max() < 1.001
    assert update.average.steps == 120


@pytest.mark.parametrize("family", ["isotropic", "diagonal", "full"])
@pytest.mark.parametrize("proximal", ["forward", "reverse"])
@pytest.mark.parametrize("norm", ["precision", "none"])
def test_the_inner_loop_leads_to_the_same_precision(family, proximal, norm):
    """The paper's update has the same fixed point; Adam's jitter, at a small rate, is what is left."""
    loop = InnerLoop(steps=20, learning_rate=0.01, norm=norm, proximal=proximal)
    if family == "full" and norm == "none":
        with pytest.raises(ValueError, match="score_norm='none' is for isotropic and diagonal"):
            make(family, shape=(3,), loop=loop)
        return
    update = make(family, kappa=1.0, learn_std=False, shape=(3,), loop=loop)
    form = update.posterior.family.curvature(0, None, torch.device("cpu"))
    for _ in range(60):
        update.step([update.posterior.family.add_level_(form.clone(), 2.5)], 0.0)
    torch.testing.assert_close(precision(update), torch.full_like(precision(update), 251.0), rtol=1e-2, atol=0)


def test_the_inner_loops_minimiser_is_the_closed_form():
    from hf_scorevi.inference import precision_ratio

    h = torch.tensor([0.2, 0.9, 1.0, 1.7, -1.0]).double()
    got = InnerLoop(steps=4000, learning_rate=0.003).precision_ratio(h, 2.0, torch.ones_like(h))
    torch.testing.assert_close(got, precision_ratio(h, 2.0), rtol=1e-4, atol=0)


class Allocations(TorchDispatchMode):
    """Records the size of every tensor that an operation makes anew."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        known = {a.untyped_storage().data_ptr() for a in args if isinstance(a, torch.Tensor)}
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, torch.Tensor) and value.untyped_storage().data_ptr() not in known:
                self.largest = max(self.largest, value.numel())
        return out


@pytest.mark.parametrize("signal", [False, True])
def test_a_diagonal_step_makes_no_tensor_of_a_weights_size(signal):
    weights = 8 * piece_size(torch.device("cpu"))
    update = make("diagonal", shape=(weights,), learn_std=False)
    truth = 1 + signal * torch.rand(weights)
    for _ in range(3):
        update.step([truth + 0.1 * torch.randn(weights)], 0.0)
    assert (update.shrinkage()[0] > 0) == signal
    curvature = truth + 0.1 * torch.randn(weights)
    with Allocations() as allocations:
        update.step([curvature], 0.0)
    assert 0 < allocations.largest <= piece_size(torch.device("cpu"))
