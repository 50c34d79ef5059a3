import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from hf_scorevi.metrics import brier


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_a_plain_loop(make_predictions, seed):
    probabilities, labels = make_predictions(num_examples=60, seed=seed)
    total = 0.0
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        for index, p in enumerate(row):
            total += (p - (1.0 if index == label else 0.0)) ** 2
    assert brier(probabilities, labels) == {"brier": pytest.approx(total / 60, rel=1e-12)}


def test_is_twice_the_score_of_the_positive_class_when_there_are_two(make_predictions):
    probabilities, labels = make_predictions(num_classes=2)
    expected = 2 * brier_score_loss(labels, probabilities[:, 1], scale_by_half=True)
    assert brier(probabilities, labels)["brier"] == pytest.approx(expected, rel=1e-12)


def test_range_is_zero_to_two():
    assert brier([[0.0, 1.0]], [1])["brier"] == 0.0
    assert brier([[0.0, 1.0]], [0])["brier"] == 2.0


def test_uniform_prediction():
    assert brier([[0.25] * 4] * 2, [0, 3])["brier"] == pytest.approx(0.75**2 + 3 * 0.25**2)


def test_does_not_depend_on_the_chunks_and_leaves_its_input_alone(make_predictions, monkeypatch):
    probabilities, labels = make_predictions(num_examples=101)
    before = probabilities.copy()
    whole = brier(probabilities, labels)["brier"]
    monkeypatch.setattr("hf_scorevi.metrics._chunks.CHUNK_ELEMENTS", 20)
    assert brier(probabilities, labels)["brier"] == pytest.approx(whole, rel=1e-12)
    np.testing.assert_array_equal(probabilities, before)
