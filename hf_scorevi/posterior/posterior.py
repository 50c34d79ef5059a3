"""The posterior over a model's weights: q(θ) = N(m, Λ⁻¹), with m living in the model itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import InputError
from .config import PosteriorConfig
from .families import FAMILIES, PRECISION_RANGE, GaussianFamily
from .noise import mix, standard_normal
from .shards import Shards, local, named_parameters

__all__ = ["Drawn", "Posterior"]

# Elements that one fused pass over tensors may cover: bounds the temporaries of noise and prior at 16 MB.
_BUCKET_ELEMENTS = 1 << 22
# A tensor this much smaller than the others has not been trained: a key's bias, whose gradient is zero, drifts so far.
_ZERO = 1e-6


class Posterior:
    """
    A Gaussian over the weights `params`, whose mean is the weights' own values.

    Args:
        params: the Bayesian weights by name, float32.
        family: the precisions, over the same tensors in the same order. They stay independent of each other.

    Attributes:
        params: the weights; of those that FSDP2 has split (`follow`), this process's part.
        shards: the part of each that this process holds.
        after_change: called whenever draws or the mean have been written into the weights.
    """

    def __init__(self, params: dict[str, nn.Parameter], family: GaussianFamily) -> None:
        self.names = list(params)
        self.family = family
        self.after_change: Callable[[], None] = _nothing
        self._drawn: list[Tensor] | None = None  # the mean, while a draw stands in the weights
        self._bind(list(params.values()))

    def _bind(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self.params: list[Tensor] = [local(p) for p in parameters]
        self.shards = self.family.shards = Shards(parameters)
        self.buckets = _buckets(self.params, self.shards.sizes)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the weights by name, as the model has them: whole, or distributed."""
        return dict(zip(self.names, self._parameters, strict=True))

    def grad(self, i: int) -> Tensor | None:
        """Return the gradient that has accumulated on the i-th of `params`, live."""
        grad = self._parameters[i].grad
        return None if grad is None else local(grad)

    @torch.no_grad()
    def follow(self, model: nn.Module) -> bool:
        """
        Take up the weights that now stand under the same names in `model`, whose parameters FSDP2 may have replaced by
        distributed ones, split the precisions likewise, and return whether it has. Collective if it has.

        Raises:
            ValueError: the family's factors cannot be split.
        """
        present = named_parameters(model)
        parameters = [present[name] for name in self.names]
        if all(p is q for p, q in zip(parameters, self._parameters, strict=True)):
            return False
        self._bind(parameters)
        for values in self.family.state().values():
            for i, value in enumerate(values):
                # With its RAM-efficient loading only the first process had the weights that precisions start from.
                whole = torch.empty_like(value, device="cpu") if value.is_meta else value
                part = self.shards.part(i, self.shards.share_(whole))
                values[i] = part.to(self.params[i].device, copy=True) if value.dim() else value
        return True

    @classmethod
    def initialise(cls, params: dict[str, nn.Parameter], config: PosteriorConfig) -> Posterior:
        """
        Return a posterior concentrated on the present weights, with a standard deviation of `config.init_std` times
        each tensor's root-mean-square weight.

        Raises:
            InputError: a weight cannot have a factor of the family, is not finite, shares memory with itself
                (`expand`), or is so large or small that its precision would be.
        """
        values = list(params.values())
        family = FAMILIES[config.family]
        for name, p in params.items():
            if problem := family.problem(p.shape):
                raise InputError(f"{name}: {problem}.")
            if any(stride == 0 and size > 1 for stride, size in zip(p.stride(), p.shape, strict=True)):
                raise InputError(f"{name} is expanded: its weights share memory. Make it `.clone()` of itself first.")
        precision = []
        for name, scale in zip(params, weight_scales(values), strict=True):
            std = config.init_std * scale
            if not math.isfinite(std):
                bad = [other for other, p in params.items() if not bool(local(p).isfinite().all())]
                raise InputError(f"{', '.join(bad[:3]) or name} has weights that are NaN or infinite, or nearly so.")
            if not PRECISION_RANGE[0] <= std**-2 <= PRECISION_RANGE[1]:
                raise InputError(
                    f"{name} would start with a standard deviation of {std:.1e} (init_std={config.init_std:g} times "
                    f"the root mean square {scale:.1e} of its weights), whose precision float32 cannot hold. Choose "
                    "init_std so that it lies between 1e-15 and 1e15."
                )
            precision.append(std**-2)
        return cls(params, family(values, precision, config.rank))

    def adopt(self, former: Posterior) -> set[str]:
        """Take over the precisions of weights that `former` has too, the same tensors, and return their names."""
        if type(self.family) is not type(former.family):
            return set()
        parameters, kept = former.parameters(), set()
        position = {name: i for i, name in enumerate(former.names)}
        for suffix, values in self.family.state().items():
            others = former.family.state()[suffix]
            for i, (name, p) in enumerate(self.parameters().items()):
                if parameters.get(name) is p and others[position[name]].shape == values[i].shape:
                    values[i] = others[position[name]]
                    kept.add(name)
        return kept

    @property
    def num_weights(self) -> int:
        """D, the number of Bayesian weights."""
        return sum(self.shards.sizes)

    @property
    def precision(self) -> dict[str, Tensor]:
        """
        Each weight's precision given the others (the diagonal of Λ) by name, in inverse squared units of the weight:
        shape () for `isotropic`, the weight's for others.
        """
        return {name: self.family.diagonal(i) for i, name in enumerate(self.names)}

    def state(self) -> list[tuple[str, str, Tensor]]:
        """Return the live tensors that make up Λ, each with its weight's name and the family's suffix."""
        return [
            (name, suffix, value)
            for suffix, values in self.family.state().items()
            for name, value in zip(self.names, values, strict=True)
        ]

    def whole_state(self) -> list[tuple[str, str, Tensor]]:
        """Return `state` for whole weights; collective if they are split."""
        return [
            (name, suffix, self.shards.whole(i, value))
            for suffix, values in self.family.state().items()
            for i, (name, value) in enumerate(zip(self.names, values, strict=True))
        ]

    @torch.no_grad()
    def score(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Return ∇ log q = −Λ(θ − m) at the weights `values`, in the order and shapes of `params`."""
        return [self.family.multiply(i, m - x) for i, (m, x) in enumerate(zip(self.mean, values, strict=True))]

    @torch.no_grad()
    def log_prob(self, values: Sequence[Tensor]) -> float:
        """Return log q at the weights `values`, in nats."""
        terms = []
        for i, (score, m, x) in enumerate(zip(self.score(values), self.mean, values, strict=True)):
            terms.append(self.family.log_det(i) + (score * (x - m)).sum(dtype=torch.float64).item())
        return 0.5 * (self._total(terms) - self.num_weights * math.log(2 * math.pi))

    def _total(self, terms: Sequence[float]) -> float:
        return self.shards.total(torch.tensor(terms, dtype=torch.float64)).sum().item()

    def log_det(self) -> float:
        """Return log det Λ of all weights together; collective if they are split."""
        return self._total([self.family.log_det(i) for i in range(len(self.params))])

    @torch.no_grad()
    def entropy(self) -> float:
        """Return the entropy of q in nats; collective if the weights are split."""
        return 0.5 * (self.num_weights * (1 + math.log(2 * math.pi)) - self.log_det())

    @torch.no_grad()
    def kl(self, other: Posterior) -> float:
        """Return KL(self‖other) in nats, for another posterior of the same family over tensors of the same shapes."""
        if type(self.family) is not type(other.family):
            raise ValueError(f"KL of a {self.family.name} to a {other.family.name} posterior is not implemented.")
        terms = []
        for i, (m, n) in enumerate(zip(self.mean, other.mean, strict=True)):
            shift = m - n
            quadratic = (shift * other.family.multiply(i, shift)).sum(dtype=torch.float64).item()
            log_det = self.family.log_det(i) - other.family.log_det(i)
            terms.append(0.5 * (self.family.trace(i, other.family) + quadratic - m.numel() + log_det))
        return self._total(terms)

    def to_params_device(self) -> None:
        """Move the precisions to where the weights are."""
        self.buckets = _buckets(self.params, self.shards.sizes)
        self.family.to_params_device(self.params)

    def bucket_noise(self, seed: int, number: int) -> list[Tensor]:
        """
        Return the standard normal ε of `seed` for the tensors of one bucket. Of split weights it is this process's
        part of what one process would draw, so that no result depends on how they are split.
        """
        index = self.buckets[number]
        shapes = [self._parameters[i].shape for i in index]
        noise = standard_normal(shapes, self.params[index[0]].device, mix(seed, number))
        return [self.shards.part(i, e) for i, e in zip(index, noise, strict=True)]

    @property
    def mean(self) -> list[Tensor]:
        """m, of the shapes of `params`: the weights, or what is kept of them while a draw stands in their place."""
        return self.params if self._drawn is None else self._drawn

    @property
    def drawn(self) -> bool:
        """Whether a draw stands in the weights."""
        return self._drawn is not None

    def require_mean(self) -> None:
        """
        Do nothing if the weights are the mean.

        Raises:
            RuntimeError: a draw stands in the weights.
        """
        if self.drawn:
            raise RuntimeError("The weights are a draw at the moment, not the mean: leave the draw's `with` first.")

    def sampled(self, seed: int, scale: float = 1.0) -> Drawn:
        """
        Return a context in which the weights are one draw, θ = m + scale·Λ^(−½)ε; after the `with` they are the mean,
        bit for bit, whatever happens inside. Draws stand in the weights themselves, as training needs it; to predict,
        a `Twin` has weights apart.

        Raises:
            RuntimeError: a draw is in place already, and another would be made around it.
        """
        return Drawn(self, seed, scale)

    @torch.no_grad()
    def draw_(self, weights: list[Tensor], seed: int, scale: float = 1.0) -> None:
        """Write the draw of `seed` into `weights`, of the shapes of `params`."""
        torch._foreach_copy_(weights, self.mean)
        self._add_noise_(weights, seed, scale)

    @torch.no_grad()
    def _add_noise_(self, weights: Sequence[Tensor], seed: int, scale: float) -> None:
        for number, index in enumerate(self.buckets):
            noise = self.bucket_noise(seed, number)
            self.family.scale_noise_(noise, index)
            torch._foreach_add_([weights[i] for i in index], noise, alpha=scale)

    @torch.no_grad()
    def restore_(self) -> None:
        """Put the mean back, if a draw stands in the weights; may be called again where it was interrupted."""
        kept = self._drawn
        if kept is not None:
            torch._foreach_copy_(self.params, kept)
            self.changed()
            self._drawn = None

    def changed(self) -> None:
        """Let caches know that weights were written; call it whenever they were."""
        torch.clear_autocast_cache()  # or a surrounding autocast would go on with the weights it has cast before
        self.after_change()


class Drawn:
    """
    A draw in the weights of a posterior, while its `with` lasts.

    An exception can come between any two instructions (Ctrl-C): the mean is kept before the first weight changes, and
    restoring it can be done twice.
    """

    def __init__(self, posterior: Posterior, seed: int, scale: float) -> None:
        self._posterior, self._seed, self._scale = posterior, seed, scale
        self._mean: list[Tensor] = []

    @torch.no_grad()
    def __enter__(self) -> Drawn:
        posterior = self._posterior
        if posterior._drawn is not None:
            raise RuntimeError("The weights are a draw already; leave its `with` (or predict with it as it is) first.")
        self._mean = [p.detach().clone() for p in posterior.params]
        try:
            posterior._drawn = self._mean
            posterior._add_noise_(posterior.params, self._seed, self._scale)
            posterior.changed()
            return self
        except BaseException:
            self._restore()
            raise

    def __exit__(self, *exception: object) -> None:
        try:
            self._restore()
        finally:
            self._restore()  # nothing to do, unless that was interrupted

    def __del__(self) -> None:
        if getattr(self, "_mean", None):  # `__exit__` was never begun
            self._restore()

    def _restore(self) -> None:
        if self._posterior._drawn is self._mean:
            self._posterior.restore_()
        self._mean = []  # whoever still has this object would keep it

    @torch.no_grad()
    def flip_(self) -> None:
        """Turn θ into 2m − θ: the antithetic draw, m − Λ^(−½)ε."""
        params = self._posterior.params
        torch._foreach_neg_(params)
        torch._foreach_add_(params, self._mean, alpha=2)
        self._posterior.changed()


def weight_scales(params: Sequence[Tensor], shards: Shards | None = None) -> list[float]:
    """
    Return the scale of each tensor, its root-mean-square weight; for a tensor of zeros (a fresh bias, a fresh LoRA B),
    or of what rounding makes of zeros, that of all weights together, and 0.02, the usual initialisation, if those are
    zero too. With `shards`, `params` are parts.
    """
    if any(p.is_meta for p in params):  # FSDP's RAM-efficient loading, not in the first process: see `follow`
        return [1.0] * len(params)
    shards = shards or Shards(params)
    with torch.no_grad():
        squares = torch.stack([norm.double().cpu() for norm in torch._foreach_norm(list(params))]).square()
    squares = shards.total(squares)
    sizes = torch.tensor(shards.sizes, dtype=torch.float64)
    overall = (squares.sum() / sizes.sum()).sqrt().item() or 0.02
    return [scale if scale > _ZERO * overall else overall for scale in (squares / sizes).sqrt().tolist()]


def _nothing() -> None:
    pass


def _buckets(params: Sequence[Tensor], sizes: Sequence[int]) -> list[list[int]]:
    """Return runs of neighbouring tensors on one device, of at most `_BUCKET_ELEMENTS` elements or of one tensor."""
    buckets: list[list[int]] = []
    size = 0
    for i, (p, elements) in enumerate(zip(params, sizes, strict=True)):
        if not buckets or size + elements > _BUCKET_ELEMENTS or p.device != params[i - 1].device:
            buckets.append([])
            size = 0
        buckets[-1].append(i)
        size += elements
    return buckets
