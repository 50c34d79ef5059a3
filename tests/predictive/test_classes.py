import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from hf_scorevi.metrics import bin_confidences, classification_metrics
from hf_scorevi.predictive import (
    TERM_SUMS,
    ClassPredictive,
    LabelsAverage,
    LabelsPredictive,
    PredictiveAverage,
)
from hf_scorevi.predictive.classes import sum_terms


def test_streams_to_what_all_draws_together_give():
    logits = torch.randn(7, 5, 4, generator=torch.Generator().manual_seed(0)).double() * 3
    average = PredictiveAverage()
    for draw in logits:
        average.add(draw)
    probabilities = logits.softmax(-1).mean(0)
    assert torch.allclose(average.log_probs.exp().double(), probabilities, atol=1e-6)
    total = entropy(probabilities.numpy(), axis=-1)
    expected = entropy(logits.softmax(-1).numpy(), axis=-1).mean(0)
    assert average.entropy.tolist() == pytest.approx(total.tolist(), abs=1e-5)
    assert average.expected_entropy.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert average.mutual_information.tolist() == pytest.approx((total - expected).tolist(), abs=1e-5)


def test_confident_draws_stay_finite():
    average = PredictiveAverage()
    average.add(torch.tensor([[1000.0, 0.0]]))
    average.add(torch.tensor([[0.0, 1000.0]]))
    assert average.log_probs.exp().tolist() == [pytest.approx([0.5, 0.5])]
    assert average.expected_entropy.item() == 0
    assert average.mutual_information.item() == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("average", [PredictiveAverage(), LabelsAverage()])
def test_nothing_added_is_an_error(average):
    with pytest.raises(ValueError, match="No draw"):
        _ = average.log_probs


def test_independent_labels_average_their_probabilities():
    average = LabelsAverage()
    for logit in (-2.0, 3.0):
        average.add(torch.tensor([[logit]]))
    expected = (torch.tensor(-2.0).sigmoid() + torch.tensor(3.0).sigmoid()) / 2
    assert average.logits.sigmoid().item() == pytest.approx(expected.item(), rel=1e-6)


def test_independent_labels_have_uncertainties_of_their_own():
    logits = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(1)) * 3
    average = LabelsAverage()
    for draw in logits:
        average.add(draw)
    probs = logits.double().sigmoid()
    both = torch.stack([probs, 1 - probs], -1).numpy()
    total, expected = entropy(both.mean(0), axis=-1), entropy(both, axis=-1).mean(0)
    assert average.entropy.numpy() == pytest.approx(total, abs=1e-5)
    assert average.expected_entropy.numpy() == pytest.approx(expected, abs=1e-5)
    assert average.mutual_information.numpy() == pytest.approx(total - expected, abs=1e-5)
    assert average.log_probs.exp().numpy() == pytest.approx(probs.mean(0).numpy(), abs=1e-6)


def test_a_certain_label_has_no_entropy():
    average = LabelsAverage()
    average.add(torch.tensor([[1000.0, -1000.0]]))
    assert average.entropy.tolist() == [[0.0, 0.0]]


def test_a_temperature_flattens_the_average_and_leaves_the_uncertainties():
    logits = torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(2)) * 2
    plain, flat = PredictiveAverage(), PredictiveAverage(temperature=2.0)
    for draw in logits:
        plain.add(draw)
        flat.add(draw)
    expected = logits.double().softmax(-1).mean(0).sqrt()
    expected /= expected.sum(-1, keepdim=True)
    assert flat.probs.numpy() == pytest.approx(expected.numpy(), abs=1e-6)
    for name in ("entropy", "expected_entropy", "mutual_information"):
        assert torch.equal(getattr(flat, name), getattr(plain, name))


def figures_of(sums: torch.Tensor) -> dict[str, float]:
    """Accuracy, NLL, ECE and Brier score over all terms."""
    total = dict(zip(TERM_SUMS, sums.sum(0).tolist(), strict=True))
    gaps = [abs(total[f"bin_correct_{i}"] - total[f"bin_confidence_{i}"]) for i in range(15)]
    means = {"accuracy": total["correct"], "nll": -total["log_likelihood"], "ece": sum(gaps), "brier": total["brier"]}
    return {name: value / total["terms"] for name, value in means.items()}


def test_the_sums_of_tokens_give_the_figures_over_those_that_are_not_ignored():
    generator = torch.Generator().manual_seed(3)
    draws = torch.randn(3, 5, 7, 4, generator=generator) * 2
    labels = torch.randint(0, 4, (5, 7), generator=generator)
    labels[torch.rand(5, 7, generator=generator) < 0.4] = -100
    predictive = ClassPredictive(by_term=True, spread=False)
    for draw in draws:
        predictive.add(draw)
    sums = predictive.scores(labels)
    assert sums.shape == (5, len(TERM_SUMS)) and sums[:, 0].tolist() == (labels != -100).sum(1).tolist()
    given = labels != -100
    expected = classification_metrics(draws.double().softmax(-1).mean(0)[given].numpy(), labels[given].numpy())
    assert figures_of(sums) == pytest.approx({name: expected[name] for name in figures_of(sums)}, abs=1e-6)
    with pytest.raises(ValueError, match="one label at each place"):
        predictive.scores(labels[:, 1:])


def test_confidences_on_the_edges_of_bins_count_as_in_the_metric():
    confidences = torch.cat([torch.arange(16) / 15, torch.arange(16) / 15 + 1e-6, torch.rand(40)])
    scores = torch.stack([-torch.ones(72), confidences, torch.ones(72), torch.zeros(72)], 1)
    found = dict(
        zip(TERM_SUMS, sum_terms(scores.unsqueeze(0), torch.ones(1, 72, dtype=torch.bool))[0].tolist(), strict=True)
    )
    expected = bin_confidences(confidences.double().clamp(0, 1).numpy(), np.ones(72, bool), 15)
    assert [found[f"bin_terms_{i}"] for i in range(15)] == expected.counts.tolist()


def test_a_large_table_is_worked_on_in_parts(monkeypatch):
    from hf_scorevi.predictive import classes

    logits = torch.randn(2, 6, 5, 9, generator=torch.Generator().manual_seed(4))
    labels = torch.randint(0, 9, (6, 5), generator=torch.Generator().manual_seed(5))
    found = []
    for chunk in (1 << 20, 20):
        monkeypatch.setattr(classes, "_CHUNK", chunk)
        predictive = ClassPredictive(1.3, by_term=True)
        for draw in logits:
            predictive.add(draw)
        found.append((predictive.scores(labels), vars(predictive.output())))
    (sums, whole), (others, parts) = found
    torch.testing.assert_close(sums, others)
    for name in ("log_probs", "entropy", "expected_entropy", "logit_std"):
        torch.testing.assert_close(whole[name], parts[name])


def test_classes_that_are_impossible_contribute_nothing_to_the_entropy():
    average = PredictiveAverage()
    average.add(torch.tensor([[0.0, 0.0, -torch.inf]]))
    assert average.entropy.item() == pytest.approx(math.log(2), rel=1e-6)
    assert average.expected_entropy.item() == pytest.approx(math.log(2), rel=1e-6)


def test_each_of_several_labels_is_a_term_of_two_classes():
    generator = torch.Generator().manual_seed(6)
    draws, labels = torch.randn(4, 8, 3, generator=generator), torch.randint(0, 2, (8, 3), generator=generator).float()
    labels[2, 1] = -100
    predictive = LabelsPredictive()
    for draw in draws:
        predictive.add(draw)
    given, yes = labels >= 0, draws.double().sigmoid().mean(0)
    expected = classification_metrics(torch.stack([1 - yes, yes], -1)[given].numpy(), labels[given].long().numpy())
    found = figures_of(predictive.scores(labels))
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-5)
