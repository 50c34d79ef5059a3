import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from hf_scorevi.posthoc import apply_temperature, fit_temperature


def data(temperature: float, n: int = 4000, k: int = 5, seed: int = 0):
    """Logits, and labels drawn from softmax(logits / temperature)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, k, generator=generator)
    labels = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator).squeeze(1)
    return logits.log_softmax(-1), labels


def nll(log_probs, labels, temperature):
    return -(log_probs.double() / temperature).log_softmax(-1).gather(1, labels.unsqueeze(1)).mean().item()


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5, 8.0])
def test_it_is_scipys_minimum(true):
    log_probs, labels = data(true)
    found = fit_temperature(log_probs, labels)
    best = minimize_scalar(
        lambda t: nll(log_probs, labels, np.exp(t)), bounds=(-4, 4), method="bounded", options={"xatol": 1e-10}
    )
    assert found == pytest.approx(np.exp(best.x), rel=1e-5)
    # The standard error of an estimate from 4,000 examples is about 2 % here.
    assert found == pytest.approx(true, rel=0.1)


def test_arrays_and_logits_and_shifts_give_the_same():
    log_probs, labels = data(2.0)
    expected = fit_temperature(log_probs, labels)
    assert fit_temperature(log_probs.numpy(), labels.numpy()) == expected
    assert fit_temperature(log_probs + 7.0, labels) == pytest.approx(expected, rel=1e-5)


def test_rows_are_taken_in_chunks(monkeypatch):
    log_probs, labels = data(2.0)
    expected = fit_temperature(log_probs, labels)
    monkeypatch.setattr("hf_scorevi.posthoc.temperature._CHUNK_ELEMENTS", 37)
    assert fit_temperature(log_probs, labels) == pytest.approx(expected, rel=1e-9)


def test_classes_of_probability_zero_do_no_harm():
    log_probs, labels = data(2.0, k=4)
    wider = torch.cat([log_probs, torch.full((len(labels), 1), -torch.inf)], 1)
    assert fit_temperature(wider, labels) == pytest.approx(fit_temperature(log_probs, labels), rel=1e-9)
    assert torch.isneginf(apply_temperature(wider, 2.0)[:, -1]).all()


def test_a_label_that_a_low_temperature_makes_impossible_still_counts():
    """At T = 0.05 the probability of its label is zero, in float64 too."""
    log_probs = torch.tensor([[0.0, -40.0]] + [[0.0, -4.0]] * 500).double().log_softmax(-1)
    labels = torch.tensor([1] + [0] * 500)
    best = minimize_scalar(
        lambda t: nll(log_probs, labels, np.exp(t)), bounds=(-3, 3), method="bounded", options={"xatol": 1e-10}
    )
    assert fit_temperature(log_probs, labels) == pytest.approx(np.exp(best.x), rel=1e-5)


def test_without_a_minimum_an_end_is_taken_and_said(caplog):
    log_probs = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()
    assert fit_temperature(log_probs, torch.tensor([0, 1])) == pytest.approx(0.05)
    assert "determine no temperature" in caplog.text
    assert fit_temperature(log_probs, torch.tensor([1, 0])) == pytest.approx(20.0)
    assert fit_temperature(torch.zeros(3, 2), torch.tensor([0, 1, 1])) == pytest.approx(20.0)  # nothing to scale


def test_applied_it_keeps_the_prediction_and_sums_to_one():
    log_probs, _ = data(1.0)
    for temperature in (0.5, 3.0):
        scaled = apply_temperature(log_probs, temperature)
        assert torch.equal(scaled.argmax(-1), log_probs.argmax(-1))
        torch.testing.assert_close(scaled.exp().sum(-1), torch.ones(len(scaled)))
        torch.testing.assert_close(scaled, (log_probs / temperature).log_softmax(-1))
    assert apply_temperature(log_probs, 1.0) is log_probs


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_positive(temperature):
    with pytest.raises(ValueError, match="positive"):
        apply_temperature(torch.zeros(2, 2), temperature)


@pytest.mark.parametrize(
    ("log_probs", "labels", "message"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.long), "shapes"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), "at least one"),
        (torch.zeros(2, 2), torch.zeros(3, dtype=torch.long), "shapes"),
        (torch.zeros(2, 2), torch.zeros(2), "whole numbers"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), "classes 0 to 1"),
        (torch.zeros(2, 2), torch.tensor([0, -100]), "label -100"),
        (torch.full((2, 2), torch.nan), torch.tensor([0, 1]), "overflowed"),
        (torch.full((2, 2), torch.inf), torch.tensor([0, 1]), "overflowed"),
        (torch.tensor([[0.0, -torch.inf]]), torch.tensor([1]), "probability zero"),
    ],
)
def test_bad_input_is_named(log_probs, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(log_probs, labels)
