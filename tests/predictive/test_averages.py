import math

import pytest
import torch
from scipy.stats import entropy

from hf_scorevi.predictive import LabelsAverage, OutputAverage, PredictiveAverage


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


@pytest.mark.parametrize("average", [PredictiveAverage(), OutputAverage(), LabelsAverage()])
def test_nothing_added_is_an_error(average):
    with pytest.raises(ValueError, match="No draw"):
        _ = average.outputs


def test_plain_outputs_are_averaged():
    average = OutputAverage()
    for value in (1.0, 2.0, 6.0):
        average.add(torch.full((2, 3), value))
    assert torch.equal(average.outputs, torch.full((2, 3), 3.0))


def test_independent_labels_average_their_probabilities():
    average = LabelsAverage()
    for logit in (-2.0, 3.0):
        average.add(torch.tensor([[logit]]))
    expected = (torch.tensor(-2.0).sigmoid() + torch.tensor(3.0).sigmoid()) / 2
    assert average.outputs.sigmoid().item() == pytest.approx(expected.item(), rel=1e-6)


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
