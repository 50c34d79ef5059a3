"""Copies of a model's structure that share its tensors, and a search for tensors that are not registered."""

from __future__ import annotations

import copy
import functools
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedConfig

__all__ = ["REMEMBERING", "copy_structure", "held", "is_atom", "remove"]

Path = tuple[Any, ...]

# Types without parts that would have to be copied.
_ATOMS = {type(None), bool, int, float, complex, str, bytes, type, range, slice, BuiltinFunctionType, ModuleType}
_ATOMS |= {torch.dtype, torch.device, torch.Size, torch.memory_format, torch.layout}
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_COPIED_FAST = {dict, OrderedDict, list, set, deque}
_CONFIGURATIONS = (PreTrainedConfig, GenerationConfig)
REMEMBERING = type(functools.lru_cache(lambda: None))
# Objects other than modules are searched to this depth, and containers up to this length.
_DEPTH, _LENGTH = 3, 10_000
# Attributes of every module: what it has registered, and hooks.
_REGISTERED = frozenset(vars(nn.Module())) | {"_compiled_call_impl"}


def copy_structure(model: nn.Module, memo: dict[int, Any]) -> Any:
    """
    Return a model of the same structure whose tensors are shared but whose modules, and the containers and objects
    that they hold, are copies. Bound methods, partial functions and closures that refer to a module refer to its copy.

    Args:
        memo: replacements of tensors, by the `id` of the original; all other tensors are shared. Copies are added.

    Raises:
        ValueError: a tensor to be replaced is held by a module that `torch.jit` has compiled.
    """
    return _Copier(memo).value(model, True, _DEPTH)


class _Copier:
    def __init__(self, memo: dict[int, Any]) -> None:
        self._memo = memo
        self._replaced = set(memo)

    def value(self, value: Any, own: bool, depth: int) -> Any:
        """Return a copy of `value`, or `value` itself. `own`: copy a container or object even if nothing in it is."""
        kind = type(value)
        if kind in _ATOMS or isinstance(value, _CONFIGURATIONS):
            return value
        found = self._memo.get(id(value))
        if found is not None:
            return found
        if isinstance(value, nn.Module):
            return self._module(value)
        if isinstance(value, Tensor):
            return value
        if isinstance(value, _CONTAINERS):
            return self._container(value, own, depth)
        if kind is MethodType:
            owner = self.value(value.__self__, False, depth)
            return value if owner is value.__self__ else MethodType(value.__func__, owner)
        if kind is FunctionType:
            return self._function(value, depth)
        if kind is functools.partial:
            parts = value.func, value.args, value.keywords, vars(value)
            function, args, keywords, attributes = copies = [self.value(part, False, depth) for part in parts]
            if all(a is b for a, b in zip(copies, parts, strict=True)):
                return value
            new = functools.partial(function, *args, **keywords)
            vars(new).update(attributes)
            return new
        if kind is REMEMBERING:
            inner = self.value(value.__wrapped__, False, depth)
            return value if inner is value.__wrapped__ else functools.lru_cache(**value.cache_parameters())(inner)
        if kind is weakref.ref:
            target = self._memo.get(id(value()))
            return value if target is None else weakref.ref(target)
        return self._object(value, own, depth)

    def _module(self, module: nn.Module) -> Any:
        kind = type(module)
        if isinstance(module, torch.jit.ScriptModule):
            if any(id(tensor) in self._replaced for tensor in (*module.parameters(), *module.buffers())):
                raise ValueError(
                    "Bayesian weights are in a module that torch.jit has compiled, which cannot be given others."
                    " Compile what holds none, or use torch.compile."
                )
            self._memo |= {id(m): m for m in module.modules()}
            return module
        if "dynamo_ctx" in vars(module):  # made by torch.compile
            compiled: Any = kind
            new = self._memo[id(module)] = compiled(
                self.value(vars(module)["_modules"]["_orig_mod"], True, _DEPTH), module.dynamo_ctx
            )
            return new
        new = self._memo[id(module)] = kind.__new__(kind)
        attributes = vars(new)
        memo = self._memo
        for key, value in vars(module).items():
            own = type(value)
            if own in _ATOMS or (own is tuple and _of_atoms(value)):
                attributes[key] = value
            elif own in _COPIED_FAST and not value:
                attributes[key] = own()
            elif key in ("_parameters", "_buffers"):
                attributes[key] = {name: memo.get(id(tensor), tensor) for name, tensor in value.items()}
            else:
                # An object that hooks collect results in is shared, not copied.
                attributes[key] = self.value(value, True, 0 if key in _REGISTERED else _DEPTH)
        return new

    def _container(self, value: Any, own: bool, depth: int) -> Any:
        items = list(value.values() if isinstance(value, dict) else value)
        if _of_atoms(items) or (not own and len(items) > _LENGTH):
            return _shallow(value) if own else value
        new: Any
        if isinstance(value, tuple | frozenset):
            copies = [self.value(item, own, depth) for item in items]
            if all(a is b for a, b in zip(copies, items, strict=True)):
                return value
            new = value._make(copies) if hasattr(value, "_make") else type(value)(copies)
            self._memo[id(value)] = new
            return new
        new = self._memo[id(value)] = _shallow(value)
        copies = [self.value(item, own, depth) for item in items]
        if not own and all(a is b for a, b in zip(copies, items, strict=True)):
            self._memo[id(value)] = value
            return value
        if isinstance(value, dict):
            for key, item in zip(value, copies, strict=True):
                dict.__setitem__(new, key, item)
        else:
            new.clear()
            new.update(copies) if isinstance(value, set) else new.extend(copies)
        return new

    def _function(self, function: FunctionType, depth: int) -> Any:
        cells = function.__closure__ or ()
        defaults = function.__defaults__, function.__kwdefaults__, vars(function)
        if not cells and not any(defaults):
            return function
        self._memo[id(function)] = function  # it may refer to itself
        contents = [_content(cell) for cell in cells]
        inner = [self.value(content, False, depth) for content in contents]
        own = [self.value(part, False, depth) for part in defaults]
        if all(a is b for a, b in zip([*inner, *own], [*contents, *defaults], strict=True)):
            return function
        closure = [c if a is b else CellType(a) for c, a, b in zip(cells, inner, contents, strict=True)]
        new = FunctionType(function.__code__, function.__globals__, function.__name__, own[0], tuple(closure))
        new.__kwdefaults__ = own[1]
        vars(new).update(own[2])
        self._memo[id(function)] = new
        return new

    def _object(self, value: Any, own: bool, depth: int) -> Any:
        attributes = _attributes(value)
        if not attributes or not depth:
            return value
        new = self._memo[id(value)] = _shallow(value) if own else value  # it may refer to itself
        changed = {}
        for key, item in attributes.items():
            found = self.value(item, own and isinstance(item, _CONTAINERS), depth - 1)
            if found is not item:
                changed[key] = found
        if changed:
            if new is value:
                new = self._memo[id(value)] = copy.copy(value)
            vars(new).update(changed)
        return new


def _of_atoms(items: Iterable[Any]) -> bool:
    return _ATOMS.issuperset(map(type, items))


def _shallow(value: Any) -> Any:
    kind = type(value)
    if kind in _COPIED_FAST:
        return value.copy() if value else kind()
    if kind is tuple:
        return value
    try:
        return copy.copy(value)
    except Exception:  # an object of another library that cannot be copied
        return value


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object that has no special way of being copied."""
    found = getattr(value, "__dict__", None)
    return found if isinstance(found, dict) and not isinstance(value, type | FunctionType) else {}


def is_atom(value: Any) -> bool:
    """Return whether a value has no parts, so that comparing it by `==` is enough."""
    return type(value) in _ATOMS


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None


def held(model: nn.Module) -> Iterator[tuple[Path, Any]]:
    """
    Yield the tensors and other values that modules hold without having registered them, containers and objects taken
    apart; each with its path, which begins with the module's name.
    """
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key not in _REGISTERED:
                if type(value) in _ATOMS or (type(value) is tuple and _of_atoms(value)):
                    yield (name, key), value
                else:
                    yield from _parts((name, key), value, _DEPTH)


def _parts(path: Path, value: Any, depth: int) -> Iterator[tuple[Path, Any]]:
    if type(value) in _ATOMS or isinstance(value, (Tensor, nn.Module, REMEMBERING, *_CONFIGURATIONS)) or not depth:
        yield path, value
        return
    items: list[tuple[Any, Any]]
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list | tuple | deque):
        items = list(enumerate(value))
    else:
        items = list(_attributes(value).items())
    yield path, type(value)
    if len(items) > _LENGTH:
        return
    for key, item in items:
        yield from _parts((*path, key), item, depth - 1)


def remove(model: nn.Module, path: Path) -> None:
    """Remove a value that `held` has yielded: delete the entry of a dictionary or list, set an attribute to `None`."""
    holder: Any = model.get_submodule(path[0])
    for key in path[1:-1]:
        holder = holder[key] if isinstance(holder, dict | list | tuple | deque) else vars(holder)[key]
    if isinstance(holder, dict | list | deque):
        del holder[path[-1]]
    elif isinstance(holder, tuple):
        remove(model, path[:-1])
    else:
        vars(holder)[path[-1]] = None
