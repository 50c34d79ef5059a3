"""Checksums: the same for the same bits wherever they lie, another for any change."""

import pytest
import torch

from hf_scorevi.hub.checksums import _WORDS, checksum


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8])
def test_any_change_is_seen_and_layout_is_not(dtype):
    tensor = (torch.randn(7, 9, generator=torch.Generator().manual_seed(0)) * 9).to(dtype)
    expected = checksum(tensor)
    assert len(expected) == 16
    assert checksum(tensor.t().contiguous().t()) == checksum(tensor.clone()) == expected
    found = {expected}
    for i in range(tensor.numel()):
        changed = tensor.clone().view(-1)
        changed[i] = ~changed[i] if dtype == torch.bool else changed[i] + 1
        found.add(checksum(changed))
    assert len(found) == 1 + tensor.numel()


def test_order_signs_and_zeros_count():
    tensor = torch.arange(1.0, 6.0)
    others = [tensor.flip(0), -tensor, torch.cat([tensor, torch.zeros(2)]).roll(1), tensor * 2, tensor[:4]]
    found = {checksum(other) for other in [tensor, *others]}
    assert len(found) == 6
    assert checksum(torch.tensor([0.0])) != checksum(torch.tensor([-0.0]))
    assert checksum(torch.zeros(0)) == "0" * 16
    assert checksum(torch.ones(2, dtype=torch.complex128)) == checksum(
        torch.tensor([1.0, 0, 1, 0], dtype=torch.float64)
    )


def test_the_size_of_the_pieces_is_no_part_of_it(monkeypatch):
    tensor = torch.randn(1001, generator=torch.Generator().manual_seed(1))
    expected = checksum(tensor)
    for words in (1, 7, 64):
        monkeypatch.setattr("hf_scorevi.hub.checksums._WORDS", (words, words))
        assert checksum(tensor) == expected
    assert len(_WORDS) == 2


def test_the_numbers_are_those_that_were_written_once():
    """They are stored with checkpoints: a change of the arithmetic would refuse all of them."""
    assert checksum(torch.arange(10.0)) == RECORDED[0]
    assert checksum(torch.arange(10, dtype=torch.bfloat16)) == RECORDED[1]


RECORDED = "05b771f4e65c8836", "9610dfef3ea5c95f"
