import pytest
import torch

from hf_scorevi.posthoc import Sketch, example_hashes

BATCH = {"pixel_values": torch.randn(10, 3, 4, generator=torch.Generator().manual_seed(0)), "mask": torch.arange(10)}


def test_hashes_tell_examples_apart_and_know_them_again():
    hashes = example_hashes(BATCH)
    assert len(set(hashes)) == 10
    shuffled = {name: value.flip(0) for name, value in reversed(BATCH.items())}
    assert example_hashes(shuffled) == hashes[::-1]
    changed = BATCH | {"mask": BATCH["mask"].clone().index_fill_(0, torch.tensor([4]), -1)}
    assert [a == b for a, b in zip(example_hashes(changed), hashes, strict=True)] == [i != 4 for i in range(10)]


def test_what_is_no_tensor_of_examples_is_passed_over():
    assert example_hashes(BATCH | {"return_dict": True, "scale": torch.tensor(1.0)}) == example_hashes(BATCH)
    assert example_hashes({"text": ["a"]}) == []
    assert len(example_hashes({"x": torch.zeros(2, 3, dtype=torch.bfloat16)})) == 2


def hashes(first: int, last: int) -> list[str]:
    return example_hashes({"x": torch.arange(first, last)})


def test_a_sketch_notices_a_small_part_of_many():
    sketch = Sketch(hashes(0, 5000))
    assert len(sketch.to_list()) == 64
    assert not sketch.knows(hashes(5000, 20000))
    assert sketch.knows(hashes(0, 5000))
    # A tenth of them is missed with probability 0.9^64 = 0.001.
    assert sketch.knows(hashes(4500, 20000))
    assert Sketch.from_list(sketch.to_list()) == sketch and hash(Sketch.from_list(sketch.to_list())) == hash(sketch)


@pytest.mark.parametrize("values", [None, {}, [1], ["0"], ["G" * 16], ["0" * 16] * 65])
def test_no_list_of_hashes_is_refused(values):
    with pytest.raises(ValueError, match="seen must"):
        Sketch.from_list(values)
