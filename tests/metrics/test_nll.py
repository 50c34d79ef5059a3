import math

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from hf_scorevi.metrics import nll, nll_from_log_probabilities


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_sklearn(make_predictions, seed):
    probabilities, labels = make_predictions(seed=seed)
    expected = log_loss(labels, probabilities, labels=range(probabilities.shape[1]))
    assert nll(probabilities, labels)["nll"] == pytest.approx(expected, rel=1e-12)
    assert nll_from_log_probabilities(np.log(probabilities), labels)["nll"] == pytest.approx(expected, rel=1e-12)


def test_is_in_nats_per_example():
    assert nll([[0.25] * 4] * 3, [0, 1, 3]) == {"nll": pytest.approx(math.log(4)), "unit": "nats"}


def test_certain_and_right_is_a_plain_zero():
    value = nll([[0.0, 1.0], [1.0, 0.0]], [1, 0])["nll"]
    assert value == 0.0
    assert math.copysign(1.0, value) == 1.0  # and not -0.0


def test_probability_zero_for_a_label_is_infinite_not_clipped():
    assert nll([[0.0, 1.0], [0.5, 0.5]], [0, 0])["nll"] == math.inf
    assert nll_from_log_probabilities([[-math.inf, 0.0], [0.0, -math.inf]], [0, 0])["nll"] == math.inf


def test_a_zero_elsewhere_does_no_harm():
    assert nll([[0.0, 0.5, 0.5]], [1])["nll"] == pytest.approx(math.log(2))
    assert nll_from_log_probabilities([[-math.inf, math.log(0.5), math.log(0.5)]], [1])["nll"] == pytest.approx(
        math.log(2)
    )


def test_log_probabilities_keep_what_float32_probabilities_lose():
    logits = np.array([[0.0, 200.0], [0.0, 20.0]], dtype=np.float32)
    labels = [0, 1]
    assert nll(softmax(logits, axis=1), labels)["nll"] == math.inf
    # -log p is 200 and log(1 + exp(-20)); float32 keeps six digits of the first.
    value = nll_from_log_probabilities(log_softmax(logits, axis=1), labels)["nll"]
    assert value == pytest.approx((200 + math.log1p(math.exp(-20))) / 2, rel=1e-6)


def test_confident_and_right_keeps_its_digits():
    # A probability of 1 - 1e-26 would be rounded to one; its logarithm is not.
    log_probabilities = [[-60.0, -math.log1p(math.exp(-60))]]
    assert nll_from_log_probabilities(log_probabilities, [1])["nll"] == pytest.approx(math.exp(-60), rel=1e-9, abs=0)


@pytest.mark.parametrize(
    ("log_probabilities", "message"),
    [
        ([[math.nan, 0.0]], "row 0 of log_probabilities holds NaN or \\+infinity"),
        ([[math.inf, 0.0]], "row 0 of log_probabilities holds NaN or \\+infinity"),
        ([[math.log(0.5)] * 2, [2.0, -1.0]], "row 1 of exp\\(log_probabilities\\) .*apply log_softmax"),
        ([[1e4, 0.0]], "row 0 of exp\\(log_probabilities\\) .*apply log_softmax"),
        ([[-math.inf, -math.inf]], "row 0 of exp\\(log_probabilities\\) .*sum 0"),
        ([0.0, -1.0], "log_probabilities must have the shape"),
        (np.empty((0, 3)), "log_probabilities is empty"),
        ([["a", "b"]], "log_probabilities must be real numbers"),
    ],
)
def test_refuses_what_are_no_log_probabilities(log_probabilities, message):
    with pytest.raises(ValueError, match=message):
        nll_from_log_probabilities(log_probabilities, [0] * len(log_probabilities))


def test_names_the_row_in_a_later_chunk(monkeypatch):
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 4)
    log_probabilities = np.log(np.full((9, 2), 0.5))
    log_probabilities[6] = 0.0
    with pytest.raises(ValueError, match="row 6 of "):
        nll_from_log_probabilities(log_probabilities, np.zeros(9, dtype=int))


def test_log_probabilities_check_labels_too():
    with pytest.raises(ValueError, match="labels\\[0\\] is 2, outside the 2 classes"):
        nll_from_log_probabilities(np.log([[0.5, 0.5]]), [2])
