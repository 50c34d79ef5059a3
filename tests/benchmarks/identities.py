"""Two identities that hold for every smooth density p on R^D, and whose failure shows a wrong density or wrong draws:
E_p[∇ log p] = 0 and E_p[∇ log p(x) (x − E x)ᵀ] = −I (integration by parts)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Identities(NamedTuple):
    """Deviations from the identities, in standard errors: of the first [D], of the second [D, D]."""

    first: Tensor
    second: Tensor

    @property
    def worst(self) -> float:
        return float(torch.cat([self.first, self.second.flatten()]).abs().max())

    @property
    def mean_square(self) -> float:
        """About one when the density is right; entries are correlated, so this is no chi-square test."""
        return float(torch.cat([self.first, self.second.flatten()]).square().mean())


def score_identities(score: Callable[[Tensor], Tensor], draws: Tensor) -> Identities:
    """In coordinates whitened by the draws' covariance, with the draws [S, D] taken as independent."""
    factor = torch.linalg.cholesky(torch.cov(draws.T).reshape(draws.shape[1], draws.shape[1]))
    white = torch.linalg.solve_triangular(factor, (draws - draws.mean(0)).T, upper=False).T
    scores = torch.cat([score(rows) for rows in draws.split(1000)]) @ factor
    products = scores[:, :, None] * white[:, None, :] + torch.eye(draws.shape[1], dtype=draws.dtype)

    def in_standard_errors(values: Tensor) -> Tensor:
        return values.mean(0) / (values.std(0) / len(values) ** 0.5)

    return Identities(in_standard_errors(scores), in_standard_errors(products))
