"""The Gaussian families, by name."""

from .base import ClosedFormFamily, GaussianFamily
from .block import BlockDiagonalGaussian, FullGaussian
from .elementwise import PRECISION_RANGE, DiagonalGaussian, IsotropicGaussian
from .low_rank import LowRankGaussian

__all__ = [
    "FAMILIES",
    "PRECISION_RANGE",
    "BlockDiagonalGaussian",
    "ClosedFormFamily",
    "DiagonalGaussian",
    "FullGaussian",
    "GaussianFamily",
    "IsotropicGaussian",
    "LowRankGaussian",
]

_ALL: tuple[type[GaussianFamily], ...] = (
    IsotropicGaussian,
    DiagonalGaussian,
    BlockDiagonalGaussian,
    LowRankGaussian,
    FullGaussian,
)
FAMILIES: dict[str, type[GaussianFamily]] = {family.name: family for family in _ALL}
