import math

import numpy as np
import pytest

from hf_scorevi.metrics import ece


def ece_by_loops(probabilities, labels, num_bins):
    """The definition, written once more and differently: example by example, bin by bin."""
    edges = [index / num_bins for index in range(1, num_bins)]
    gaps = [0.0] * num_bins
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        correct = row.index(confidence) == label
        gaps[np.digitize(confidence, edges, right=True)] += correct - confidence
    return sum(abs(gap) for gap in gaps) / len(labels)


@pytest.mark.parametrize("num_bins", [1, 5, 15, 100])
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loops(make_predictions, seed, num_bins):
    probabilities, labels = make_predictions(seed=seed)
    result = ece(probabilities, labels, num_bins)
    assert result == {
        "ece": pytest.approx(ece_by_loops(probabilities, labels, num_bins), rel=1e-9),
        "num_bins": num_bins,
        "binning": "equal_width",
        "norm": "l1",
    }


def test_fifteen_bins_by_default():
    assert ece([[0.5, 0.5]], [0])["num_bins"] == 15


def test_by_hand():
    # Bins (0.5, 0.75] and (0.75, 1]: gaps |1/2 - 0.65| and |1 - 0.9|, two and one of three examples.
    probabilities = [[0.6, 0.4], [0.3, 0.7], [0.9, 0.1]]
    assert ece(probabilities, [0, 0, 0], num_bins=4)["ece"] == pytest.approx((2 * 0.15 + 0.1) / 3)


def test_one_bin_is_the_gap_of_the_means(make_predictions):
    probabilities, labels = make_predictions()
    gap = (probabilities.argmax(axis=1) == labels).mean() - probabilities.max(axis=1).mean()
    assert ece(probabilities, labels, num_bins=1)["ece"] == pytest.approx(abs(gap))


def test_extremes():
    certain = [[0.0, 1.0], [1.0, 0.0]]
    assert ece(certain, [1, 0])["ece"] == 0.0
    assert ece(certain, [0, 1])["ece"] == 1.0
    assert ece([[0.25, 0.75]], [1])["ece"] == pytest.approx(0.25)  # one example


def test_one_class_always_predicted_at_its_frequency_is_calibrated():
    probabilities = np.tile([0.7, 0.2, 0.1], (10, 1))
    assert ece(probabilities, [0] * 7 + [1, 1, 2])["ece"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_of_a_calibrated_model_is_its_monte_carlo_error(make_predictions, seed):
    num_bins = 15
    probabilities, labels = make_predictions(num_examples=50_000, seed=seed)
    # Each bin's gap is normal around 0 with variance v / n, v the mean of p(1 - p) there; |gap| has the mean
    # sqrt(2v / (pi n)) and the variance (1 - 2 / pi) v / n. The ECE sums the gaps with weight n / N.
    confidences = probabilities.max(axis=1)
    mean = variance = 0.0
    for index in range(num_bins):
        inside = confidences[(confidences > index / num_bins) & (confidences <= (index + 1) / num_bins)]
        if len(inside):
            spread = (inside * (1 - inside)).sum()  # n v
            mean += math.sqrt(2 * spread / math.pi) / len(labels)
            variance += (1 - 2 / math.pi) * spread / len(labels) ** 2
    assert mean < 0.01  # so that the next line means "near zero"
    assert ece(probabilities, labels, num_bins)["ece"] == pytest.approx(mean, abs=4 * math.sqrt(variance))


@pytest.mark.parametrize("num_bins", [5, 15])
def test_of_an_overconfident_model_is_the_analytic_value(num_bins):
    # Right with probability p, uniform on [1/2, 1], but says (1 + p) / 2. The gap (1 - p) / 2 has one sign everywhere,
    # so that the ECE is its mean, 1/8, for any bins. Standard error below sqrt(1/4 / N).
    rng = np.random.default_rng(0)
    num_examples = 40_000
    p = rng.uniform(0.5, 1.0, num_examples)
    correct = rng.random(num_examples) < p
    said = (1 + p) / 2
    value = ece(np.stack([said, 1 - said], axis=1), np.where(correct, 0, 1), num_bins)["ece"]
    assert value == pytest.approx(0.125, abs=4 * 0.5 / math.sqrt(num_examples))


def test_of_an_underconfident_model_is_the_analytic_value():
    assert ece([[0.6, 0.4]] * 10, [0] * 9 + [1])["ece"] == pytest.approx(0.3)  # says 0.6, right in 0.9
