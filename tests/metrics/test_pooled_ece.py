import numpy as np
import pytest

from hf_scorevi.metrics import classwise_ece, ece, pooled_ece


def pooled_ece_by_loops(probabilities, labels, num_bins):
    """Every probability against its entry of the one-hot matrix, with the edges compared in float32."""
    edges = np.linspace(0, 1, num_bins + 1).astype(np.float32)[1:-1]
    forecasts = [
        (float(p), float(k == label), int(sum(np.float32(p) > edge for edge in edges)))
        for row, label in zip(probabilities, labels, strict=True)
        for k, p in enumerate(row)
    ]
    total = 0.0
    for index in range(num_bins):
        inside = [(p, hit) for p, hit, number in forecasts if number == index]
        if inside:
            gap = sum(hit for _, hit in inside) / len(inside) - sum(p for p, _ in inside) / len(inside)
            total += len(inside) / len(forecasts) * abs(gap)
    return total


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("num_bins", [1, 2, 7, 15])
def test_agrees_with_loops(make_predictions, num_bins, dtype):
    probabilities, labels = make_predictions(num_examples=120, num_classes=5, seed=num_bins)
    probabilities = probabilities.astype(dtype)
    assert pooled_ece(probabilities, labels, num_bins) == {
        # With one bin the value is what rounding leaves of rows that sum to one.
        "pooled_ece": pytest.approx(pooled_ece_by_loops(probabilities, labels, num_bins), rel=1e-9, abs=1e-12),
        "num_bins": num_bins,
        "binning": "equal_width",
        "norm": "l1",
    }


def test_by_hand():
    # Bins [0, 1/2] and (1/2, 1]: {0.3, 0.3, 0.4, 0.1, 0.1} with one hit, {0.8} without one.
    value = pooled_ece([[0.3, 0.3, 0.4], [0.1, 0.1, 0.8]], [2, 0], num_bins=2)["pooled_ece"]
    assert value == pytest.approx((abs(2 - 1.2) + 0.8) / 6)


def test_extremes():
    certain = [[0.0, 1.0], [1.0, 0.0]]
    assert pooled_ece(certain, [1, 0])["pooled_ece"] == 0.0
    assert pooled_ece(certain, [0, 1])["pooled_ece"] == 1.0  # 2 / classes
    assert pooled_ece([[0.25, 0.75]], [1])["pooled_ece"] == pytest.approx(0.25)  # one example
    assert pooled_ece([[0.7, 0.3]] * 10, [0] * 7 + [1] * 3)["pooled_ece"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("accuracy", [0.3, 0.75, 1.0])
def test_is_one_to_two_in_classes_of_the_ece_where_predicted_classes_have_bins_of_their_own(accuracy):
    num_classes, num_examples = 37, 400
    rng = np.random.default_rng(0)
    confidences = rng.uniform(0.6, 0.99, num_examples)
    probabilities = np.repeat((1 - confidences)[:, None] / (num_classes - 1), num_classes, axis=1)
    probabilities[:, 5] = confidences
    labels = np.where(rng.random(num_examples) < accuracy, 5, 8)
    ratio = num_classes * pooled_ece(probabilities, labels)["pooled_ece"] / ece(probabilities, labels)["ece"]
    if accuracy == 0.75:  # too confident in some bins, and too little in others
        assert 1.0 < ratio < 2.0
    else:
        assert ratio == pytest.approx(2.0, rel=1e-9)


def test_is_at_most_the_class_wise_error(make_predictions):
    predictions = make_predictions()
    assert pooled_ece(*predictions)["pooled_ece"] <= classwise_ece(*predictions)["classwise_ece"]


def test_classes_cancel_here_and_not_class_by_class():
    # Class 0 has always half of what it says, class 1 half more; together they are right.
    probabilities, labels = [[0.5, 0.5]] * 4, [0, 1, 1, 1]
    assert pooled_ece(probabilities, labels)["pooled_ece"] == pytest.approx(0.0, abs=1e-12)
    assert classwise_ece(probabilities, labels)["classwise_ece"] == pytest.approx(0.25)
