"""Resamples of examples for bootstrap intervals."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hf_scorevi.metrics.inputs import check_positive


def resamples(num_examples: int, num_resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield for each resample with replacement how often each example [examples] occurs in it."""
    rng = np.random.default_rng(seed)
    for _ in range(num_resamples):
        yield np.bincount(rng.integers(num_examples, size=num_examples), minlength=num_examples)


def check_bootstrap(num_resamples: int, level: float) -> None:
    """Raise a ValueError unless an interval of this level can be made of so many resamples."""
    check_positive("num_resamples", num_resamples, "1000 is usual")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, not {level!r}: 0.95 is usual")
