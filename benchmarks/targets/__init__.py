"""The targets of the synthetic benchmark, by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.targets.base import Reference, Target, autograd_score
from benchmarks.targets.bnn import bnn
from benchmarks.targets.gaussian import CONDITIONS, DIMS, random_gaussian
from benchmarks.targets.logistic import logistic
from benchmarks.targets.mixture import SEPARATIONS, mixture_1d, mixture_2d, mixture_separated
from benchmarks.targets.noisy import NOISE_VARIANCES, noisy_gaussian
from benchmarks.targets.posteriordb import MODELS, posterior
from benchmarks.targets.sinh_arcsinh import SETTINGS, name_of, sinh_arcsinh

__all__ = ["Reference", "Target", "autograd_score", "groups"]

Builder = Callable[[], Target]


def groups(data_dir: Path | None = None, seed: int = 0) -> dict[str, dict[str, Builder]]:
    """Group to name to a function that builds the target, in the report's order.

    `seed` is that of the noise in noisy scores; the targets themselves never change. Without `data_dir`, the folder of
    posteriordb, that group is empty.
    """
    gaussians: dict[str, Builder] = {
        f"gaussian-{dim}" + ("" if condition is None else f"-cond{condition:g}"): partial(
            random_gaussian, dim, condition
        )
        for condition in CONDITIONS
        for dim in DIMS
    }
    mixtures: dict[str, Builder] = {"mixture-1d": mixture_1d, "mixture-2d": mixture_2d}
    mixtures |= {f"mixture-10d-sep{value:g}": partial(mixture_separated, value) for value in SEPARATIONS}
    data: dict[str, Builder] = {
        "logistic-full": logistic,
        "logistic-minibatch": partial(logistic, minibatch=True, seed=seed),
        "bnn-regression": partial(bnn, "regression", seed),
        "bnn-classification": partial(bnn, "classification", seed),
    }
    return {
        "gaussian": gaussians,
        "sinh_arcsinh": {name_of(*setting): partial(sinh_arcsinh, *setting) for setting in SETTINGS},
        "mixture": mixtures,
        "noisy": {f"noisy-{value:g}": partial(noisy_gaussian, value, seed) for value in NOISE_VARIANCES},
        "data": data,
        "posteriordb": {} if data_dir is None else {name: partial(posterior, name, data_dir) for name in MODELS},
    }
