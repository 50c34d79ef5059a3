"""Running a pass again with the random numbers of the first: same dropout masks, global state as after one pass."""

from __future__ import annotations

import torch

__all__ = ["RandomState"]


class RandomState:
    """The global torch random state of the CPU and of `device`, as it was when this was made."""

    def __init__(self, device: torch.device) -> None:
        self._cpu = torch.get_rng_state()
        self._module = None if device.type == "cpu" else torch.get_device_module(device)
        self._device = device
        self._state = None if self._module is None else self._module.get_rng_state(device)

    def restore(self) -> None:
        """Set the global state back to it."""
        torch.set_rng_state(self._cpu)
        if self._module is not None:
            self._module.set_rng_state(self._state, self._device)
