"""Checksums of weights that are the same on every machine and device, and cost little more than reading them once."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["checksum"]

# Words of eight bytes that are worked on together: small enough for a processor's cache, large for a GPU.
_WORDS = 1 << 16, 1 << 22
# Odd constants whose bits look random, in 64 bits with a sign.
_STEP, _MIX = -7046029254386353131, -4658895280553007687


@torch.no_grad()
def checksum(tensor: Tensor) -> str:
    """
    Return 16 hexadecimal digits that change with any bit of `tensor` and with the order of its numbers. Not against
    forgery: for that there is SHA-256.
    """
    flat = (torch.view_as_real(tensor) if tensor.is_complex() else tensor).detach().reshape(-1)
    if flat.device.type not in ("cpu", "cuda"):  # others lack integers of 64 bits
        flat = flat.cpu()
    per_word = 8 // flat.element_size()
    words = _WORDS[flat.is_cuda]
    steps = torch.arange(words, device=flat.device) * _STEP
    total = torch.zeros((), dtype=torch.int64, device=flat.device)
    for first in range(0, flat.numel(), words * per_word):
        part = flat[first : first + words * per_word]
        if excess := part.numel() % per_word:
            part = torch.cat([part, part.new_zeros(per_word - excess)])
        mixed = part.clone().view(torch.int64)
        mixed += steps[: mixed.numel()]
        mixed += _wrapped(first // per_word * _STEP)
        for shift in (32, 29):
            mixed ^= mixed >> shift
            mixed *= _MIX
        mixed ^= mixed >> 32
        total += mixed.sum()
    return f"{int(total) % 2**64:016x}"


def _wrapped(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63
