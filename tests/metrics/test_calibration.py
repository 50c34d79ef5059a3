import numpy as np
import pytest
import torch

from hf_scorevi import metrics
from hf_scorevi.metrics import accuracy, adaptive_ece, brier, classification_metrics, classwise_ece, ece, nll


def test_collects_the_single_metrics(make_predictions):
    probabilities, labels = make_predictions()
    assert classification_metrics(probabilities, labels, num_bins=10) == {
        "accuracy": accuracy(probabilities, labels)["accuracy"],
        "nll": nll(probabilities, labels)["nll"],
        "ece": ece(probabilities, labels, num_bins=10)["ece"],
        "ece_bins": 10,
        "classwise_ece": classwise_ece(probabilities, labels, num_bins=10)["classwise_ece"],
        "adaptive_ece": adaptive_ece(probabilities, labels, num_bins=10)["adaptive_ece"],
        "brier": brier(probabilities, labels)["brier"],
    }


def test_values_are_plain_python_numbers(make_predictions):
    probabilities, labels = make_predictions()
    values = classification_metrics(probabilities.astype(np.float32), labels, num_bins=np.int64(15))
    assert {name: type(value) for name, value in values.items()} == {
        "accuracy": float,
        "nll": float,
        "ece": float,
        "ece_bins": int,
        "classwise_ece": float,
        "adaptive_ece": float,
        "brier": float,
    }


def test_takes_tensors_as_they_come_out_of_a_model(make_predictions):
    probabilities, labels = make_predictions()
    tensor = torch.tensor(probabilities, requires_grad=True)
    assert classification_metrics(tensor, torch.tensor(labels)) == classification_metrics(probabilities, labels)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("float32", 1e-6)])
def test_low_precision_changes_little(make_predictions, dtype, tolerance):
    # One bin, because rounding may carry an example over an edge between bins.
    probabilities, labels = make_predictions(num_examples=200, num_classes=100)
    exact = classification_metrics(probabilities, labels, num_bins=1)
    assert classification_metrics(probabilities.astype(dtype), labels, num_bins=1) == pytest.approx(
        exact, rel=tolerance
    )


def test_all_names_are_sorted_and_there():
    assert metrics.__all__ == sorted(metrics.__all__)
    assert all(hasattr(metrics, name) for name in metrics.__all__)
