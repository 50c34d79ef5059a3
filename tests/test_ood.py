import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from hf_scorevi.ood import energy, evaluate_ood


def test_energy_by_hand():
    logits = torch.tensor([[0.0, 0.0], [1.0, 3.0]])
    expected = torch.tensor([-np.log(2), -np.log(np.e + np.e**3)], dtype=torch.float32)
    torch.testing.assert_close(energy(logits), expected)
    draws = torch.stack([logits, logits + 2])  # 2 more for each logit are 2 less energy
    torch.testing.assert_close(energy(draws), expected - 1)


def test_energy_of_half_precision_does_not_overflow():
    assert energy(torch.full((1, 3), 6e4, dtype=torch.float16)).item() == pytest.approx(-6e4, rel=1e-3)


@pytest.mark.parametrize("logits", [torch.zeros(3), torch.zeros(1, 2, 3, 4)])
def test_energy_refuses_other_shapes(logits):
    with pytest.raises(ValueError, match=r"logits must have the shape \(B, K\) or \(S, B, K\)"):
        energy(logits)


def test_outside_is_positive():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(0, 1, 80), rng.normal(1, 1, 50)
    found = evaluate_ood(inside, torch.tensor(outside))
    labels = np.repeat([0, 1], [80, 50])
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, np.concatenate([inside, outside])))
    assert evaluate_ood(outside, inside)["auroc"] == pytest.approx(1 - found["auroc"])
    assert evaluate_ood([0.1], [0.2])["auroc"] == 1


def test_names_the_scores_that_are_wrong():
    with pytest.raises(ValueError, match=r"out_scores must have the shape \[examples\], at least one, not \[0\]"):
        evaluate_ood([1.0], [])
    with pytest.raises(ValueError, match=r"in_scores must have the shape \[examples\], at least one, not \[1, 1\]"):
        evaluate_ood([[1.0]], [1.0])
    with pytest.raises(ValueError, match="NaN"):
        evaluate_ood([1.0, float("nan")], [1.0])
