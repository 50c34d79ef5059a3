import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from hf_scorevi.metrics import accuracy


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_sklearn(make_predictions, seed):
    probabilities, labels = make_predictions(seed=seed)
    assert accuracy(probabilities, labels) == {"accuracy": accuracy_score(labels, probabilities.argmax(axis=1))}


def test_one_class_always_predicted_is_right_as_often_as_the_class_occurs():
    probabilities = np.tile([0.1, 0.7, 0.2], (10, 1))
    assert accuracy(probabilities, [1, 1, 1, 0, 2, 2, 0, 0, 0, 0])["accuracy"] == pytest.approx(0.3)


def test_a_tie_goes_to_the_lowest_class():
    ties = [[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]
    assert accuracy(ties, [0, 1])["accuracy"] == 1.0
    assert accuracy(ties, [1, 2])["accuracy"] == 0.0


def test_one_example():
    assert accuracy([[0.2, 0.8]], [1]) == {"accuracy": 1.0}
    assert accuracy([[0.2, 0.8]], [0]) == {"accuracy": 0.0}
