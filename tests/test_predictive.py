import math

import pytest
import torch
from scipy.stats import entropy

from hf_scorevi.predictive import PredictiveAverage


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


def test_nothing_added_is_an_error():
    with pytest.raises(ValueError, match="No draw"):
        _ = PredictiveAverage().log_probs
