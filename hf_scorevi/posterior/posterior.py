"""The posterior over a model's weights: q(θ) = N(m, Λ⁻¹), with m living in the model itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .config import PosteriorConfig
from .families import FAMILIES, GaussianFamily
from .noise import mix, standard_normal

__all__ = ["Posterior"]

# Elements that one fused pass over tensors may cover: bounds the temporaries of noise and prior at 64 MB.
_BUCKET_ELEMENTS = 1 << 24


class Posterior:
    """
    A Gaussian over the weights `params`, whose mean is the weights' own values.

    Args:
        params: the Bayesian weights by name, float32.
        family: the precisions, over the same tensors in the same order. They stay independent of each other.
    """

    def __init__(self, params: dict[str, nn.Parameter], family: GaussianFamily) -> None:
        self.names = list(params)
        self.params: list[Tensor] = list(params.values())
        self.family = family
        self.buckets = _buckets(self.params)

    @classmethod
    def initialise(cls, params: dict[str, nn.Parameter], config: PosteriorConfig) -> Posterior:
        """Concentrated on the present weights: std `config.init_std` times each tensor's root-mean-square weight."""
        values = list(params.values())
        family = FAMILIES[config.family]
        for name, p in params.items():
            if problem := family.problem(p.shape):
                raise ValueError(f"{name}: {problem}.")
        precision = [(config.init_std * scale) ** -2 for scale in weight_scales(values)]
        return cls(params, family(values, precision, config.rank))

    @property
    def num_weights(self) -> int:
        """D, the number of Bayesian weights."""
        return sum(p.numel() for p in self.params)

    @property
    def precision(self) -> dict[str, Tensor]:
        """
        Each weight's precision given the others (the diagonal of Λ) by name, in inverse squared units of the weight:
        shape () for `isotropic`, the weight's for others.
        """
        return {name: self.family.diagonal(i) for i, name in enumerate(self.names)}

    def state(self) -> list[tuple[str, str, Tensor]]:
        """The live tensors that make up Λ, each with its weight's name and the family's suffix."""
        return [
            (name, suffix, value)
            for suffix, values in self.family.state().items()
            for name, value in zip(self.names, values, strict=True)
        ]

    @torch.no_grad()
    def score(self, values: Sequence[Tensor]) -> list[Tensor]:
        """∇ log q = −Λ(θ − m) at the weights `values`, in the order and shapes of `params`."""
        return [self.family.multiply(i, m - x) for i, (m, x) in enumerate(zip(self.params, values, strict=True))]

    @torch.no_grad()
    def log_prob(self, values: Sequence[Tensor]) -> float:
        """log q at the weights `values`, in nats."""
        total = 0.5 * sum(self.family.log_det(i) for i in range(len(self.params)))
        for score, m, x in zip(self.score(values), self.params, values, strict=True):
            total += 0.5 * (score * (x - m)).sum(dtype=torch.float64).item()
        return total - 0.5 * self.num_weights * math.log(2 * math.pi)

    @torch.no_grad()
    def entropy(self) -> float:
        """In nats."""
        log_det = sum(self.family.log_det(i) for i in range(len(self.params)))
        return 0.5 * (self.num_weights * (1 + math.log(2 * math.pi)) - log_det)

    @torch.no_grad()
    def kl(self, other: Posterior) -> float:
        """KL(self‖other) in nats, for another posterior of the same family over tensors of the same shapes."""
        if type(self.family) is not type(other.family):
            raise ValueError(f"KL of a {self.family.name} to a {other.family.name} posterior is not implemented.")
        total = 0.0
        for i, (m, n) in enumerate(zip(self.params, other.params, strict=True)):
            shift = m - n
            quadratic = (shift * other.family.multiply(i, shift)).sum(dtype=torch.float64).item()
            log_det = self.family.log_det(i) - other.family.log_det(i)
            total += 0.5 * (self.family.trace(i, other.family) + quadratic - m.numel() + log_det)
        return total

    def to_params_device(self) -> None:
        """Follow the weights after they were moved."""
        self.buckets = _buckets(self.params)
        self.family.to_params_device(self.params)

    def bucket_noise(self, seed: int, number: int) -> list[Tensor]:
        """The standard normal ε of `seed` for the tensors of one bucket."""
        return standard_normal([self.params[i] for i in self.buckets[number]], mix(seed, number))

    @contextmanager
    def sampled(self, seed: int) -> Iterator[Sample]:
        """
        The model with weights of one draw, θ = m + Λ^(−½)ε, inside the `with`; the mean, bit for bit, after it,
        whatever happens inside.
        """
        with torch.no_grad():
            mean = [p.detach().clone() for p in self.params]
        try:
            self._perturb_(seed)
            yield Sample(self.params, mean)
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.params, mean)

    @torch.no_grad()
    def _perturb_(self, seed: int) -> None:
        for number, index in enumerate(self.buckets):
            noise = self.bucket_noise(seed, number)
            self.family.scale_noise_(noise, index)
            torch._foreach_add_([self.params[i] for i in index], noise)


class Sample:
    """One draw, while it stands in the model."""

    def __init__(self, params: list[Tensor], mean: list[Tensor]) -> None:
        self._params, self._mean = params, mean

    @torch.no_grad()
    def flip_(self) -> None:
        """θ → 2m − θ: the antithetic draw, m − Λ^(−½)ε."""
        torch._foreach_neg_(self._params)
        torch._foreach_add_(self._params, self._mean, alpha=2)


def weight_scales(params: Sequence[Tensor]) -> list[float]:
    """
    The scale of each tensor, its root-mean-square weight; for a tensor of zeros (a fresh bias, a fresh LoRA B) that of
    all weights together, and 0.02, the usual initialisation, if those are zero too.
    """
    with torch.no_grad():
        squares = torch.stack([norm.double().cpu() for norm in torch._foreach_norm(list(params))]).square()
    sizes = torch.tensor([p.numel() for p in params], dtype=torch.float64)
    overall = (squares.sum() / sizes.sum()).sqrt().item() or 0.02
    return [scale or overall for scale in (squares / sizes).sqrt().tolist()]


def _buckets(params: Sequence[Tensor]) -> list[list[int]]:
    """Runs of neighbouring tensors on one device, of at most `_BUCKET_ELEMENTS` elements or of one tensor."""
    buckets: list[list[int]] = []
    size = 0
    for i, p in enumerate(params):
        if not buckets or size + p.numel() > _BUCKET_ELEMENTS or p.device != params[i - 1].device:
            buckets.append([])
            size = 0
        buckets[-1].append(i)
        size += p.numel()
    return buckets
