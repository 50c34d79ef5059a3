"""Resamples of examples for bootstrap intervals."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


def resamples(num_examples: int, num_resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """How often each example [examples] occurs in a resample of as many with replacement, one resample at a time."""
    rng = np.random.default_rng(seed)
    for _ in range(num_resamples):
        yield np.bincount(rng.integers(num_examples, size=num_examples), minlength=num_examples)


def check_bootstrap(num_resamples: int, level: float) -> None:
    """A ValueError unless these make an interval."""
    if isinstance(num_resamples, bool) or not isinstance(num_resamples, int | np.integer) or num_resamples < 1:
        raise ValueError(f"num_resamples must be an integer of at least 1, not {num_resamples!r}: 1000 is usual")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie between 0 and 1, not {level!r}: 0.95 is usual")
