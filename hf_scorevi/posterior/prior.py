"""The prior: independent Gaussians centred at the initial weights, one standard deviation a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .posterior import Posterior

__all__ = ["GaussianPrior"]


class GaussianPrior:
    """
    p(θ) = Π_j N(μ_j, σ_j² I) over a list of tensors.

    Args:
        mean: μ, one tensor each, of the weight's shape or of shape () (a constant, which costs no memory).
        std: σ, one positive number each, in units of the weights.
        learn_std: whether `update_std` moves σ (empirical Bayes) or leaves it.
    """

    def __init__(self, mean: Sequence[Tensor], std: Sequence[float], learn_std: bool) -> None:
        self.mean = list(mean)
        self.std = [float(value) for value in std]
        self.learn_std = learn_std
        self.initial_std = list(self.std)

    def adopt(self, former: GaussianPrior, names: Sequence[str], former_names: Sequence[str], kept: set[str]) -> None:
        """Take over μ and σ of the weights named in `kept`; both lists of names are in the order of the tensors."""
        position = {name: i for i, name in enumerate(former_names)}
        for i, name in enumerate(names):
            if name in kept:
                j = position[name]
                self.mean[i], self.std[i] = former.mean[j], former.std[j]
                self.initial_std[i] = former.initial_std[j]

    @property
    def precision(self) -> list[float]:
        """1/σ_j²."""
        return [value**-2 for value in self.std]

    def add_gradient_(
        self, grads: Sequence[Tensor], means: Sequence[Tensor], index: Sequence[int], factor: float
    ) -> None:
        """Add factor·(m_j − μ_j)/σ_j², the gradient of −factor·log p at the mean, for the tensors at `index`."""
        pull = self._shift(means, index)
        torch._foreach_mul_(pull, [factor * self.std[i] ** -2 for i in index])
        torch._foreach_add_(list(grads), pull)

    def mean_square_shift(self, means: Sequence[Tensor], index: Sequence[int]) -> list[Tensor]:
        """Return mean (m_j − μ_j)² for the tensors at `index`, float64 scalars on their device."""
        norms = torch._foreach_norm(self._shift(means, index))
        return [norm.double().square() / max(m.numel(), 1) for norm, m in zip(norms, means, strict=True)]

    def _shift(self, means: Sequence[Tensor], index: Sequence[int]) -> tuple[Tensor, ...]:
        """Return m_j − μ_j for the tensors at `index`."""
        return torch._foreach_sub(list(means), [self.mean[i].to(means[0].device) for i in index])

    def update_std(self, mean_variance: Sequence[float], mean_square_shift: Sequence[float]) -> None:
        """
        Set σ by empirical Bayes in closed form, tensor by tensor: σ² = ½ [s² + mean(1/λ) + mean (m − μ)²].

        The last two terms are the σ² that minimises KL(q‖p), the M-step of variational EM; s is where σ started, the
        scale of the pretrained weights. s² is the mode of an inverse-gamma prior on σ² that counts as much as the
        tensor itself. Without it σ would collapse, with q, onto a start that is concentrated, or onto zero for a
        tensor that the data have not moved yet (automatic relevance determination).
        """
        if self.learn_std:
            terms = zip(self.initial_std, mean_variance, mean_square_shift, strict=True)
            self.std = [(0.5 * (s * s + variance + shift)) ** 0.5 for s, variance, shift in terms]

    def state_dict(self, posterior: Posterior) -> dict[str, Tensor]:
        """Return μ, σ and where σ started, whole tensors by name; collective if the posterior's weights are split."""
        state = {
            "std": torch.tensor(self.std, dtype=torch.float64),
            "scale": torch.tensor(self.initial_std, dtype=torch.float64),
        }
        return state | {f"mean.{i}": posterior.shards.whole(i, mean) for i, mean in enumerate(self.mean)}

    def load_state_dict(self, state: Mapping[str, Tensor], posterior: Posterior) -> None:
        """
        Take over what `state_dict` returned, of each mean the part that this process holds.

        Raises:
            KeyError: a tensor is missing; nothing was changed.
        """
        std, initial_std = state["std"].tolist(), state["scale"].tolist()
        parts = [posterior.shards.part(i, state[f"mean.{i}"]) for i in range(len(posterior.params))]
        self.mean = [mean.to(p.device, copy=True) for mean, p in zip(parts, posterior.params, strict=True)]
        self.std, self.initial_std = std, initial_std

    @torch.no_grad()
    def follow(self, posterior: Posterior) -> None:
        """Split μ as FSDP2 has split the posterior's weights; the first process's prior becomes everyone's."""
        shards = posterior.shards
        figures = shards.share_(
            torch.tensor([self.std, self.initial_std, [m.dim() for m in self.mean]], dtype=torch.float64)
        )
        self.std, self.initial_std = figures[0].tolist(), figures[1].tolist()
        for i, (mean, p, dim) in enumerate(zip(self.mean, posterior.params, figures[2].tolist(), strict=True)):
            if not dim:
                self.mean[i] = torch.zeros((), device=p.device)
                continue
            whole = mean if mean.dim() and not mean.is_meta else torch.zeros(shards.shapes[i])
            self.mean[i] = shards.part(i, shards.share_(whole)).to(p.device, copy=True)
