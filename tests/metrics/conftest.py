from collections.abc import Callable

import numpy as np
import pytest

Predictions = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def make_predictions() -> Callable[..., Predictions]:
    """Dirichlet probabilities, and labels drawn from them: the labels of a calibrated model."""

    def make(num_examples: int = 500, num_classes: int = 7, seed: int = 0) -> Predictions:
        rng = np.random.default_rng(seed)
        probabilities = rng.dirichlet(np.full(num_classes, 0.5), size=num_examples)
        below = probabilities.cumsum(axis=1) < rng.random((num_examples, 1))
        return probabilities, np.minimum(below.sum(axis=1), num_classes - 1)

    return make
