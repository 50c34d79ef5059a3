import random

import numpy as np
import pytest
import torch

from hf_scorevi.random_state import RandomState, cuda_devices, preserved_random_state

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = [torch.device("cpu"), pytest.param(torch.device("cuda", 0), marks=[pytest.mark.gpu, NO_GPU])]


def draw(device: torch.device) -> tuple[float, ...]:
    own = torch.rand((), device=device).item()
    return random.random(), np.random.rand(), torch.rand(()).item(), own


def differ(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return all(a != b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("device", DEVICES)
def test_a_state_can_be_replayed_more_than_once(device: torch.device) -> None:
    state = RandomState(device)
    first, second = draw(device), draw(device)
    for _ in range(2):
        state.restore()
        assert (draw(device), draw(device)) == (first, second)
    assert differ(first, second)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", [None, 0, -1, 2**53])
def test_nothing_outside_changes(device: torch.device, seed: int | None) -> None:
    state = RandomState(device)
    expected = draw(device)
    state.restore()
    with pytest.raises(KeyError), preserved_random_state(device, seed=seed):
        draw(device)
        raise KeyError
    assert draw(device) == expected


@pytest.mark.parametrize("device", DEVICES)
def test_a_seed_decides_what_is_drawn_inside(device: torch.device) -> None:
    drawn = []
    for seed in (3, 3, 4):
        with preserved_random_state(device, seed=seed):
            drawn.append(draw(device))
    assert drawn[0] == drawn[1] and differ(drawn[0], drawn[2])
    with preserved_random_state(device):
        torch.manual_seed(3)
        assert torch.rand((), device=device).item() == drawn[0][3]


def test_without_a_seed_the_draws_go_on() -> None:
    device = torch.device("cpu")
    state = RandomState()
    expected = draw(device)
    state.restore()
    with preserved_random_state():
        assert draw(device) == expected


def test_all_devices_of_cuda_are_named() -> None:
    assert [device.index for device in cuda_devices()] == list(range(torch.cuda.device_count()))
