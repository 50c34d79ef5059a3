import math

import pytest
import torch

from hf_scorevi.predictive import per_example_scores


def scores_by_loops(log_probs, labels):
    rows = []
    for row, label in zip(log_probs.double().tolist(), labels.tolist(), strict=True):
        confidence = max(row)
        brier = sum((math.exp(p) - (index == label)) ** 2 for index, p in enumerate(row))
        rows.append([row[label], math.exp(confidence), float(row.index(confidence) == label), brier])
    return torch.tensor(rows)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("integer", [torch.uint8, torch.int32, torch.int64])
def test_scores_agree_with_loops(dtype, integer):
    generator = torch.Generator().manual_seed(0)
    log_probs = (torch.randn(50, 6, generator=generator) * 3).log_softmax(-1).to(dtype)
    labels = torch.randint(6, (50,), generator=generator).to(integer)
    scores = per_example_scores(log_probs, labels)
    assert scores.shape == (50, 4)
    assert scores.dtype == torch.float32
    assert torch.allclose(scores, scores_by_loops(log_probs, labels), rtol=1e-5, atol=1e-6)


def test_scores_of_a_tie_follow_argmax():
    ties = torch.full((2, 2), math.log(0.5))
    assert per_example_scores(ties, torch.tensor([0, 1]))[:, 2].tolist() == [1.0, 0.0]


def test_scores_of_certainty():
    log_probs = torch.tensor([[0.0, -math.inf], [0.0, -math.inf]])
    scores = per_example_scores(log_probs, torch.tensor([0, 1])).tolist()
    assert scores == [[0.0, 1.0, 1.0, 0.0], [-math.inf, 1.0, 0.0, 2.0]]


def test_scores_of_the_nearly_certain_are_not_negative():
    logits = torch.linspace(5, 40, 200).unsqueeze(1) * torch.tensor([[1.0, 0.0, 0.0]])
    scores = per_example_scores(logits.log_softmax(-1), torch.zeros(200, dtype=torch.int64))
    assert (scores[:, 3] >= 0).all()


def test_scores_leave_their_input_and_its_gradient_alone():
    logits = torch.randn(4, 3, requires_grad=True)
    log_probs = logits.log_softmax(-1)
    before = log_probs.detach().clone()
    assert not per_example_scores(log_probs, torch.tensor([0, 1, 2, 0])).requires_grad
    assert torch.equal(log_probs, before)


def test_scores_of_an_empty_batch():
    assert per_example_scores(torch.empty(0, 3), torch.empty(0, dtype=torch.int64)).shape == (0, 4)


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((3,), torch.tensor([0, 1, 2]), r"shapes \(B, K\) and \(B,\), not \(3,\) and \(3,\)"),
        ((2, 3, 4), torch.tensor([0, 1]), "shapes"),
        ((2, 3), torch.tensor([0]), r"not \(2, 3\) and \(1,\)"),
        ((2, 3), torch.tensor([[0], [1]]), "shapes"),
        ((2, 3), torch.tensor([0.0, 1.0]), "labels must be whole numbers, not torch.float32"),
        ((2, 3), torch.tensor([True, False]), "labels must be whole numbers, not torch.bool"),
        ((2, 3), torch.tensor([0, -100]), r"labels must be classes 0 to 2, not -100 to 0; leave out ignored"),
        ((2, 3), torch.tensor([0, 3]), "labels must be classes 0 to 2, not 0 to 3"),
    ],
)
def test_scores_refuse_what_does_not_fit(shape, labels, message):
    with pytest.raises(ValueError, match=message):
        per_example_scores(torch.zeros(shape), labels)
