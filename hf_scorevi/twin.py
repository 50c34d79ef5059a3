"""
Twins: models of the same structure as another, which share its weights except some that they replace.

Posterior draws are written into a twin, never into the model itself: another thread, or a copy, sees only the mean.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedModel

from .posterior import Posterior
from .structure import REMEMBERING, copy_structure, held, is_atom, remove

__all__ = ["Folded", "Kept", "Twin", "Twins", "derive_anew", "require_weights"]


class Kept:
    """
    A record of where the modules of a model hold tensors that are neither parameters nor buffers: constants.

    Tensors that they store elsewhere later, in a forward pass for instance, may depend on weights, so twins omit them.
    """

    def __init__(self, model: nn.Module) -> None:
        self._tensors, self._names = set(), set()
        for path, value in held(model):
            self._names.add(path[:2])
            if isinstance(value, Tensor):
                self._tensors.add(path)

    def drop_later(self, model: nn.Module) -> None:
        """Remove the later tensors from a twin."""
        later = [path for path, value in held(model) if isinstance(value, Tensor) and path not in self._tensors]
        for path in reversed(later):  # so that positions in a list stay valid
            remove(model, path)
            if len(path) == 2 and path not in self._names:
                del vars(model.get_submodule(path[0]))[path[1]]


class Twin:
    """
    Args:
        model: is not changed, whatever happens to the twin.
        own: replacements of tensors of the model, by the `id` of the original. All others are shared, but for batch
            normalisation's statistics.
        kept: the constants among the other tensors that modules hold.
        evaluate: put the twin into evaluation mode; default: each module is in its original's.

    Attributes:
        model: the twin, ready once `fold` was called.

    Raises:
        ValueError: Bayesian weights are in a module that `torch.jit` has compiled.
    """

    def __init__(self, model: nn.Module, own: Mapping[int, Any], kept: Kept | None = None, evaluate: bool = True):
        memo: dict[int, Any] = {}
        modules = list(model.modules())
        for module in modules:
            folds = _folds(type(module))
            if folds or isinstance(module, _BatchNorm):
                memo.update((id(b), b.clone()) for b in module.buffers(recurse=False))
            if folds:  # it may write into weights that are not drawn
                plain = [p for p in module.parameters(recurse=False) if type(p) is nn.Parameter]
                memo.update((id(p), _copied(p, p)) for p in plain)
        memo |= own
        self.model = copy_structure(model, memo)
        if kept is not None:
            kept.drop_later(self.model)
        twins = [memo[id(module)] for module in modules]
        self._modes = {new: not evaluate and old.training for new, old in zip(twins, modules, strict=True)}
        self._folding = [module for module in twins if _folds(type(module))]
        for module in self._folding:
            module.train(True)
        self._lasting = bool(self._folding) or any(map(_remembers, map(type, twins)))
        self._before: list[Any] | None = None

    def fold(self) -> nn.Module:
        """
        Return the twin once its weights are in place, with everything recomputed that modules derive from weights in
        evaluation mode.
        """
        for module in self._folding:  # parents come before children
            module.train(self._modes[module])
        for module, training in self._modes.items():
            module.training = training
        return self.model

    def watch(self) -> None:
        """Start to watch for changes that forward passes make to what the modules hold; see `leaves_traces`."""
        self._before = None if self._lasting else _traces(self.model)

    def leaves_traces(self) -> bool:
        """Return whether passes may have changed what the modules hold since `watch`."""
        return self._lasting or self._before != _traces(self.model)


class Folded(nn.Module):
    """A twin whose modules recompute in every call what they derive from weights."""

    def __init__(self, twin: Twin) -> None:
        super().__init__()
        self.model, self._twin = twin.model, twin

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._twin.fold()(*args, **kwargs)


class Twins:
    """
    Twins of one model for its posterior's draws, one after another in the same memory: a copy of the Bayesian weights.

    Raises:
        ValueError: the posterior is over weights that the model does not use (any more).
    """

    def __init__(
        self, model: nn.Module, posterior: Posterior, kept: Kept | None = None, evaluate: bool = True
    ) -> None:
        require_weights(model, posterior)
        self._model, self._posterior, self._kept, self._evaluate = model, posterior, kept, evaluate
        self._own: list[Tensor] = [_copied(p, m) for p, m in zip(posterior.params, posterior.mean, strict=True)]
        self._twin: Twin | None = None
        self._fresh: bool | None = None  # whether every draw needs a new twin, once that is known

    @torch.no_grad()
    def drawn(self, seed: int, scale: float, last: bool = False) -> nn.Module:
        """
        Return the model with the weights of a draw, which replace those of the previous draw.

        Args:
            last: whether this is the last draw.
        """
        posterior, twin = self._posterior, self._twin
        if twin is not None and self._fresh is None:
            self._fresh = twin.leaves_traces()
        if twin is None or self._fresh:
            if twin is not None:  # a new one begins with the mean, as the model does
                torch._foreach_copy_(self._own, posterior.mean)
            own = {id(p): value for p, value in zip(posterior.params, self._own, strict=True)}
            twin = Twin(self._model, own, self._kept, self._evaluate)
        posterior.draw_(self._own, seed, scale)
        torch.clear_autocast_cache()  # or a surrounding autocast would use the previous draw's weights
        model = twin.fold()
        if self._twin is None and not last:
            twin.watch()
        self._twin = twin
        return model


def derive_anew(model: nn.Module) -> None:
    """Recompute what modules derive from their weights in evaluation mode and drop in training mode."""
    modes = {module: module.training for module in model.modules()}
    folding = [module for module in modes if _folds(type(module))]
    for mode in (True, None):
        for module in folding:  # parents come before children
            module.train(modes[module] if mode is None else mode)
    for module, training in modes.items() if folding else ():
        module.training = training


def require_weights(model: nn.Module, posterior: Posterior) -> None:
    """
    Check that the model uses the weights that the posterior is over.

    Raises:
        ValueError: it does not use some of them (any more).
    """
    present = {id(p) for p in model.parameters()}
    missing = [name for name, p in zip(posterior.names, posterior.params, strict=True) if id(p) not in present]
    if missing:
        raise ValueError(
            f"The posterior is over {', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}, which the model no "
            "longer has or has replaced. Draws would not reach it: undo the change, or train the changed model."
        )
    if any(vars(module).get("merged_adapters") for module in model.modules()):
        raise ValueError(
            "The adapter is merged into its base, where draws do not reach it: call unmerge_adapter() first. A plain "
            "model of one draw is what merge_and_unload(seed) gives."
        )


def _copied(parameter: Tensor, value: Tensor) -> nn.Parameter:
    own = nn.Parameter(value.detach().clone(), parameter.requires_grad)
    vars(own).update(vars(parameter))  # attributes that other code has set on it
    return own


def _traces(model: nn.Module) -> list[Any]:
    """Return what modules hold, in a form that compares equal as long as they hold the same."""
    return [(path, _mark(value)) for path, value in held(model)]


def _mark(value: Any) -> Any:
    if isinstance(value, REMEMBERING):
        return value.cache_info()
    return value if is_atom(value) else id(value)


def _folds(kind: type[nn.Module]) -> bool:
    """Return whether modules of this class act when they change between training and evaluation."""
    return kind.train not in (nn.Module.train, PreTrainedModel.train)


@functools.lru_cache(maxsize=1024)
def _remembers(kind: Hashable) -> bool:
    """Return whether a method's results are cached outside modules of this class."""
    bases = getattr(kind, "__mro__", ())
    return any(isinstance(value, REMEMBERING) for base in bases for value in vars(base).values())
