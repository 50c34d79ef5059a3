"""The global random generators of Python, numpy and torch: saved, restored, or left unchanged."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["RandomState", "cuda_devices", "preserved_random_state"]


class RandomState:
    """
    The state of the global random generators when this object was made: Python's, numpy's, and torch's of the CPU and
    of `devices`. Reading the state of a GPU waits for it.
    """

    def __init__(self, *devices: torch.device) -> None:
        self._python, self._numpy, self._cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self._devices = [
            (device, torch.get_device_module(device).get_rng_state(device))
            for device in devices
            if device.type != "cpu"
        ]

    def restore(self) -> None:
        """Set the generators back to this state."""
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        torch.set_rng_state(self._cpu)
        for device, state in self._devices:
            torch.get_device_module(device).set_rng_state(state, device)


@contextmanager
def preserved_random_state(*devices: torch.device, seed: int | None = None) -> Iterator[None]:
    """
    Restore the global random generators when the `with` block ends.

    Args:
        devices: whose generators are preserved besides those of the CPU.
        seed: of all of them inside the `with`; default: they keep their state.
    """
    before = RandomState(*devices)
    try:
        if seed is not None:
            _seed(seed, *devices)
        yield
    finally:
        before.restore()


def cuda_devices() -> list[torch.device]:
    """Return all devices of CUDA that this process can see."""
    return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]


def _seed(seed: int, *devices: torch.device) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # it takes no more
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed devices that are not preserved
    for device in devices:
        if device.type != "cpu":
            state = torch.Generator(device).manual_seed(seed).get_state()
            torch.get_device_module(device).set_rng_state(state, device)
