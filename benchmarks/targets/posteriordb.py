"""Reference posteriors of posteriordb (github.com/stan-dev/posteriordb), read from a folder with one folder each:
data.json or data.json.gz, and draws.npz with `draws` [chains, draws, dim], constrained."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.targets import stan_other, stan_regression
from benchmarks.targets.base import Reference, Target
from benchmarks.targets.stan_model import StanModel

MODELS: dict[str, Callable[[Any], StanModel]] = {
    "eight_schools-eight_schools_noncentered": stan_other.eight_schools_noncentered,
    "kidiq-kidscore_momiq": stan_regression.kidscore_momiq,
    "kidiq-kidscore_interaction": stan_regression.kidscore_interaction,
    "earnings-logearn_interaction_z": stan_regression.logearn_interaction_z,
    "mesquite-logmesquite": stan_regression.logmesquite,
    "nes2000-nes": stan_regression.nes,
    "sblrc-blr": stan_regression.blr,
    "arK-arK": stan_regression.ar_k,
    "garch-garch11": stan_other.garch11,
    "gp_pois_regr-gp_regr": stan_other.gp_regr,
    "low_dim_gauss_mix-low_dim_gauss_mix": stan_other.low_dim_gauss_mix,
    "diamonds-diamonds": stan_regression.diamonds,
}


def load_data(folder: Path) -> dict[str, Any]:
    """What the Stan program reads.

    Raises:
        FileNotFoundError: the folder has neither data.json nor data.json.gz.
    """
    plain = folder / "data.json"
    with plain.open() if plain.exists() else gzip.open(folder / "data.json.gz", "rt") as file:
        return json.load(file)


def load_model(folder: Path) -> StanModel:
    """The posterior whose data lie in `folder`; its name says which model.

    Raises:
        KeyError: no model of that name.
    """
    return MODELS[folder.name](load_data(folder))


def load_draws(folder: Path) -> Tensor:
    """The reference draws [chains · draws, dim], constrained, float64."""
    with np.load(folder / "draws.npz") as archive:
        draws = archive["draws"].astype(np.float64)
    return torch.from_numpy(draws.reshape(-1, draws.shape[-1]))


def posterior(name: str, data_dir: Path) -> Target:
    """One reference posterior in its unconstrained space. The log normaliser is unknown."""
    model = load_model(data_dir / name)
    draws = model.unconstrained(load_draws(data_dir / name))
    reference = Reference.from_draws(draws)
    return Target(name, "posteriordb", model.transform.dim, model.log_prob, reference=reference)
