import math

import pytest
import torch
from scipy.stats import entropy

from hf_scorevi.predictive import OutputAverage, PredictiveAverage


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


@pytest.mark.parametrize("average", [PredictiveAverage(), OutputAverage(), OutputAverage(probabilities=True)])
def test_nothing_added_is_an_error(average):
    with pytest.raises(ValueError, match="No draw"):
        _ = average.outputs


def test_plain_outputs_are_averaged():
    average = OutputAverage()
    for value in (1.0, 2.0, 6.0):
        average.add(torch.full((2, 3), value))
    assert torch.equal(average.outputs, torch.full((2, 3), 3.0))


def test_independent_labels_average_their_probabilities():
    average = OutputAverage(probabilities=True)
    for logit in (-2.0, 3.0):
        average.add(torch.tensor([[logit]]))
    expected = (torch.tensor(-2.0).sigmoid() + torch.tensor(3.0).sigmoid()) / 2
    assert average.outputs.sigmoid().item() == pytest.approx(expected.item(), rel=1e-6)
