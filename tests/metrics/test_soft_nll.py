import math

import numpy as np
import pytest
from scipy.special import rel_entr
from scipy.stats import entropy

from hf_scorevi.metrics import nll, soft_nll


def one_hot(labels, num_classes):
    return np.eye(num_classes)[labels]


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scipy(make_predictions, seed):
    probabilities, _ = make_predictions(seed=seed)
    counts = np.random.default_rng(seed).multinomial(20, probabilities[::-1])  # with zeros
    human = counts / 20
    kl = rel_entr(human, probabilities).sum(axis=1).mean()
    label_entropy = entropy(human, axis=1).mean()
    assert soft_nll(probabilities, human) == {
        "soft_nll": pytest.approx(kl + label_entropy, rel=1e-12),
        "label_entropy": pytest.approx(label_entropy, rel=1e-12),
        "kl": pytest.approx(kl, rel=1e-12),
        "unit": "nats",
    }


def test_one_hot_rows_give_the_nll(make_predictions):
    probabilities, labels = make_predictions()
    result = soft_nll(probabilities, one_hot(labels, 7))
    assert result["soft_nll"] == pytest.approx(nll(probabilities, labels)["nll"], rel=1e-12)
    assert result["label_entropy"] == 0.0
    assert math.copysign(1.0, result["label_entropy"]) == 1.0  # and not -0.0


def test_saying_what_the_annotators_say_has_no_divergence(make_predictions):
    probabilities, _ = make_predictions()
    result = soft_nll(probabilities, probabilities)
    assert result["kl"] == pytest.approx(0.0, abs=1e-12)
    assert result["soft_nll"] == pytest.approx(result["label_entropy"], rel=1e-12)


def test_zeros():
    # What nobody chose costs nothing; what somebody chose and the model excludes is infinite.
    assert soft_nll([[0.0, 0.5, 0.5]], [[0.0, 0.5, 0.5]])["soft_nll"] == pytest.approx(math.log(2))
    result = soft_nll([[0.0, 1.0], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]])
    assert result["soft_nll"] == result["kl"] == math.inf
    assert math.isfinite(result["label_entropy"])


def test_certain_and_right_is_a_plain_zero():
    result = soft_nll([[0.0, 1.0]], [[0.0, 1.0]])
    assert [result[name] for name in ("soft_nll", "label_entropy", "kl")] == [0.0, 0.0, 0.0]
    assert math.copysign(1.0, result["soft_nll"]) == 1.0


def test_does_not_depend_on_the_chunks(make_predictions, monkeypatch):
    probabilities, _ = make_predictions(num_examples=101)
    whole = soft_nll(probabilities, probabilities[::-1])["soft_nll"]
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 20)
    assert soft_nll(probabilities, probabilities[::-1])["soft_nll"] == pytest.approx(whole, rel=1e-12)
