import numpy as np
import pytest

from hf_scorevi.metrics import ece, mce


def mce_by_loops(probabilities, labels, num_bins):
    bins: dict = {}
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        index = int(np.digitize(confidence, np.arange(1, num_bins) / num_bins, right=True))
        bins.setdefault(index, []).append((row.index(confidence) == label) - confidence)
    return max(abs(sum(gaps) / len(gaps)) for gaps in bins.values())


@pytest.mark.parametrize("num_bins", [1, 5, 15, 100])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loops(make_predictions, seed, num_bins):
    probabilities, labels = make_predictions(seed=seed)
    assert mce(probabilities, labels, num_bins) == {
        "mce": pytest.approx(mce_by_loops(probabilities, labels, num_bins), rel=1e-9),
        "num_bins": num_bins,
        "binning": "equal_width",
        "norm": "max",
    }


def test_by_hand():
    # Bins (0.5, 0.75] and (0.75, 1]: gaps |1/2 - 0.65| and |1 - 0.9|.
    assert mce([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1]], [0, 0, 0], num_bins=4)["mce"] == pytest.approx(0.15)


def test_extremes():
    certain = [[0.0, 1.0], [1.0, 0.0]]
    assert mce(certain, [1, 0])["mce"] == 0.0
    assert mce(certain, [0, 1])["mce"] == 1.0
    assert mce([[0.25, 0.75]], [1])["mce"] == pytest.approx(0.25)  # one example


def test_is_at_least_the_ece_and_equal_to_it_in_one_bin(make_predictions):
    predictions = make_predictions()
    assert mce(*predictions)["mce"] > ece(*predictions)["ece"]
    assert mce(*predictions, 1)["mce"] == ece(*predictions, 1)["ece"]
