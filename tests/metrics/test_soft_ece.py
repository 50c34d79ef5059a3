import numpy as np
import pytest

from hf_scorevi.metrics import ece, soft_ece


@pytest.fixture
def human(make_predictions):
    def make(seed=0):
        probabilities, _ = make_predictions(seed=seed)
        return probabilities, np.random.default_rng(seed).multinomial(9, probabilities) / 9

    return make


@pytest.mark.parametrize("num_bins", [1, 5, 15])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loops(human, seed, num_bins):
    probabilities, shares = human(seed)
    gaps = [0.0] * num_bins
    for row, share in zip(probabilities.tolist(), shares.tolist(), strict=True):
        confidence = max(row)
        index = int(np.digitize(confidence, np.arange(1, num_bins) / num_bins, right=True))
        gaps[index] += share[row.index(confidence)] - confidence
    assert soft_ece(probabilities, shares, num_bins) == {
        "soft_ece": pytest.approx(sum(map(abs, gaps)) / len(shares), rel=1e-9),
        "num_bins": num_bins,
        "binning": "equal_width",
        "norm": "l1",
    }


def test_one_hot_rows_give_the_ece(make_predictions):
    probabilities, labels = make_predictions()
    assert soft_ece(probabilities, np.eye(7)[labels])["soft_ece"] == pytest.approx(ece(probabilities, labels)["ece"])


def test_saying_what_the_annotators_say_is_calibrated(human):
    probabilities, _ = human()
    assert soft_ece(probabilities, probabilities)["soft_ece"] == pytest.approx(0.0, abs=1e-12)


def test_by_hand():
    # Bins (0.5, 0.75] and (0.75, 1]: gaps |(0.5 + 0.6) / 2 - 0.65| and |1 - 0.9|.
    shares = [[0.5, 0.5], [0.4, 0.6], [1.0, 0.0]]
    value = soft_ece([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1]], shares, num_bins=4)["soft_ece"]
    assert value == pytest.approx((2 * 0.1 + 0.1) / 3)


def test_a_tie_goes_to_the_lowest_class():
    assert soft_ece([[0.5, 0.5]], [[0.9, 0.1]])["soft_ece"] == pytest.approx(0.4)


def test_extremes():
    assert soft_ece([[0.0, 1.0]], [[0.0, 1.0]])["soft_ece"] == 0.0
    assert soft_ece([[0.0, 1.0]], [[1.0, 0.0]])["soft_ece"] == 1.0
