"""Noise for the samples: counter-based, float64, independent or in orthogonal pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..posterior.noise import mix

__all__ = ["antithetic_noise", "normal_noise", "orthogonal_noise", "require_pairs"]


def require_pairs(batch_size: int, method: str) -> int:
    """Return the number of pairs in a batch, or raise a ValueError if it is odd."""
    if batch_size % 2:
        raise ValueError(f"{method} draws samples in pairs: batch_size must be even, not {batch_size}.")
    return batch_size // 2


def normal_noise(n: int, dim: int, *key: int) -> Tensor:
    """Return (n, dim) standard normal numbers, float64: a pure function of the integers in `key`."""
    generator = torch.Generator().manual_seed(mix(*key))
    return torch.randn(int(n), int(dim), generator=generator, dtype=torch.float64)


def antithetic_noise(pairs: int, dim: int, *key: int) -> Tensor:
    """Return (2·pairs, dim) standard normal noise in pairs ±z: a pure function of the integers in `key`."""
    half = normal_noise(pairs, dim, *key)
    return torch.cat([half, -half])


def orthogonal_noise(pairs: int, dim: int, *key: int) -> Tensor:
    """
    Return (2·pairs, dim) standard normal noise in pairs ±z of orthogonal directions, in blocks of up to `dim` pairs.

    Each row by itself is exactly standard normal; together they cover all directions evenly ("orthogonal Monte
    Carlo", Yu et al., NeurIPS 2016). A pure function of the integers in `key`.
    """
    blocks = math.ceil(pairs / dim)
    q, r = torch.linalg.qr(normal_noise(blocks * dim, dim, *key, 0).view(blocks, dim, dim))
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]  # QR's signs are a convention; these make Q uniform
    lengths = normal_noise(blocks * dim, dim, *key, 1).view(blocks, dim, dim).norm(dim=-1, keepdim=True)
    half = (q * lengths).reshape(-1, dim)[:pairs]
    return torch.cat([half, -half])
