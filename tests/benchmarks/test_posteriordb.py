"""Densities written from the Stan programs, against posteriordb's reference draws; run where HF_SCOREVI_DATA_DIR names
the folder with one folder for each posterior."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.targets.base import autograd_score
from benchmarks.targets.posteriordb import MODELS, load_data, load_draws, load_model, posterior
from benchmarks.targets.stan_other import linear_recursion
from tests.benchmarks.identities import score_identities
from tests.benchmarks.stan_densities import DENSITIES

DATA_DIR = os.environ.get("HF_SCOREVI_DATA_DIR")
needs_data = pytest.mark.skipif(not DATA_DIR, reason="HF_SCOREVI_DATA_DIR is not set")


def folder(name: str) -> Path:
    path = Path(DATA_DIR or "") / name
    if not path.exists():
        pytest.skip(f"no folder {name}")
    return path


@needs_data
@pytest.mark.parametrize("name", MODELS)
def test_score_identities_under_reference_draws(name: str) -> None:
    target = posterior(name, folder(name).parent)
    assert target.reference is not None and target.reference.draws is not None
    found = score_identities(target.score, target.reference.draws)
    print(f"\n{name}: worst {found.worst:.2f} standard errors, mean square {found.mean_square:.2f}")
    assert found.worst < 5.0


@needs_data
@pytest.mark.parametrize("name", MODELS)
def test_a_density_that_is_wrong_by_a_tenth_would_be_noticed(name: str) -> None:
    target = posterior(name, folder(name).parent)
    assert target.reference is not None and target.reference.draws is not None
    assert score_identities(lambda x: 1.1 * target.score(x), target.reference.draws).worst > 5.0


FEW_DATA = (
    "eight_schools-eight_schools_noncentered",
    "mesquite-logmesquite",
    "garch-garch11",
    "gp_pois_regr-gp_regr",
)


# Where many data determine a parameter, its Jacobian moves the posterior by less than 10,000 draws can show; the log
# density below, and the Jacobians in test_transforms.py, are then what tells.
@needs_data
@pytest.mark.parametrize(
    "name",
    ["eight_schools-eight_schools_noncentered", "mesquite-logmesquite", "garch-garch11", "gp_pois_regr-gp_regr"],
)
def test_a_forgotten_jacobian_would_be_noticed(name: str) -> None:
    model = load_model(folder(name))
    draws = model.unconstrained(load_draws(folder(name)))
    without = autograd_score(lambda u: model.log_density(model.transform.constrain(u)[0]))
    assert score_identities(without, draws).worst > 10.0


@needs_data
@pytest.mark.parametrize("name", MODELS)
def test_log_density_against_the_program_line_by_line(name: str) -> None:
    """Differences between draws, because constants are left out; the draws are spread to reach the tails."""
    model, data = load_model(folder(name)), load_data(folder(name))
    u = model.unconstrained(load_draws(folder(name))[::2500])
    u = u.mean(0) + 2 * (u - u.mean(0))
    x = model.transform.constrain(u)[0]
    arrays = {key: np.array(value) if isinstance(value, list) else value for key, value in data.items()}
    expected = np.array([DENSITIES[name](arrays, row) for row in x.numpy()])
    found = model.log_density(x).numpy()
    assert np.ptp(expected) > 0.1
    assert np.allclose(found - found[0], expected - expected[0], rtol=1e-8, atol=1e-7)


@needs_data
@pytest.mark.parametrize("name", MODELS)
def test_draws_survive_the_round_trip(name: str) -> None:
    model = load_model(folder(name))
    x = model.from_draws(load_draws(folder(name)))
    back = model.transform.constrain(model.transform.unconstrain(x))[0]
    assert torch.allclose(back, x, rtol=1e-10, atol=1e-10)


def test_linear_recursion_against_a_loop() -> None:
    inputs = torch.randn(3, 37, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    decay = torch.tensor([0.0, 0.5, 0.99], dtype=torch.float64)
    expected = [inputs[:, 0]]
    for t in range(1, 37):
        expected.append(inputs[:, t] + decay * expected[-1])
    assert torch.allclose(linear_recursion(inputs, decay), torch.stack(expected, dim=1), atol=1e-12)
