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
    assert brier(probabilities, labels)["brier"] == pytest.approx(total / 60, rel=1e-12)


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
    whole = brier(probabilities, labels)
    monkeypatch.setattr("hf_scorevi.metrics.chunks.CHUNK_ELEMENTS", 20)
    assert brier(probabilities, labels) == {
        name: value if isinstance(value, str) else pytest.approx(value, rel=1e-9) for name, value in whole.items()
    }
    np.testing.assert_array_equal(probabilities, before)


PARTS = ("reliability", "resolution", "uncertainty", "within_bin_variance", "within_bin_covariance")


def parts_by_loops(probabilities, labels, num_bins):
    """The definitions, class by class and bin by bin, with the edges compared in float32."""
    edges = np.linspace(0, 1, num_bins + 1).astype(np.float32)[1:-1]
    n = len(labels)
    parts = dict.fromkeys(PARTS, 0.0)
    for k in range(probabilities.shape[1]):
        bins: dict = {}
        for row, label in zip(probabilities, labels, strict=True):
            bins.setdefault(sum(np.float32(row[k]) > edge for edge in edges), []).append((float(row[k]), label == k))
        base = np.mean(labels == k)
        parts["uncertainty"] += base * (1 - base)
        for inside in bins.values():
            p, o = np.array(inside, dtype=float).T
            parts["reliability"] += len(p) / n * (p.mean() - o.mean()) ** 2
            parts["resolution"] += len(p) / n * (o.mean() - base) ** 2
            parts["within_bin_variance"] += ((p - p.mean()) ** 2).sum() / n
            parts["within_bin_covariance"] += 2 * ((p - p.mean()) * (o - o.mean())).sum() / n
    return parts


def assembled(result):
    signs = dict.fromkeys(PARTS, 1) | {"resolution": -1, "within_bin_covariance": -1}
    return sum(sign * result[name] for name, sign in signs.items())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_bins", [1, 2, 15])
def test_parts_agree_with_loops(make_predictions, num_bins, dtype):
    probabilities, labels = make_predictions(num_examples=150, num_classes=4, seed=num_bins)
    result = brier(probabilities.astype(dtype), labels, num_bins)
    expected = parts_by_loops(probabilities.astype(dtype), labels, num_bins)
    assert {name: result[name] for name in PARTS} == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert result["num_bins"] == num_bins and result["binning"] == "equal_width"


DEGENERATE = {
    "one example": ([[0.2, 0.5, 0.3]], [1]),
    "one label": ([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]], [1, 1]),
    "certain": ([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], [1, 0, 1]),
    "one forecast": ([[0.6, 0.4]] * 5, [0, 0, 1, 1, 1]),
    "half precision": (np.array([[0.3, 0.7], [0.9, 0.1]], dtype=np.float16), [0, 0]),
}


@pytest.mark.parametrize("num_bins", [1, 15, 200])
@pytest.mark.parametrize("case", DEGENERATE)
def test_parts_add_up_where_there_is_little(case, num_bins):
    result = brier(*DEGENERATE[case], num_bins)
    assert assembled(result) == pytest.approx(result["brier"], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("num_bins", [1, 2, 15, 100])
def test_parts_add_up(make_predictions, num_bins):
    result = brier(*make_predictions(num_examples=2000, seed=num_bins), num_bins)
    assert assembled(result) == pytest.approx(result["brier"], rel=1e-12)


def test_forecasts_of_few_values_have_murphys_three_parts():
    # Says 0.8 and is right in 3 of 4, or says 0.4 and is right in 1 of 4; base rate 1/2. Both classes alike.
    probabilities = [[0.8, 0.2]] * 4 + [[0.4, 0.6]] * 4
    result = brier(probabilities, [0, 0, 0, 1, 0, 1, 1, 1], num_bins=10)
    assert {name: result[name] for name in PARTS} == {
        "reliability": pytest.approx(2 * (0.05**2 + 0.15**2) / 2),
        "resolution": pytest.approx(2 * 0.25**2),
        "uncertainty": pytest.approx(2 * 0.25),
        "within_bin_variance": pytest.approx(0.0, abs=1e-12),
        "within_bin_covariance": pytest.approx(0.0, abs=1e-12),
    }


def test_a_calibrated_model_is_reliable(make_predictions):
    result = brier(*make_predictions(num_examples=50_000))
    # Of 7 classes with at most 15 bins each: every bin adds about p (1 - p) / N <= 1 / 4N.
    assert 0.0 <= result["reliability"] < 2 * 7 * 15 / (4 * 50_000)
    assert result["resolution"] > 0.1
