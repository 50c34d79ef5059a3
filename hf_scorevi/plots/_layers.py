"""The place of a tensor in its model, as far as its name shows it."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

_WRAPPERS = re.compile(
    r"^base_model\.model\.|\bmodules_to_save\.|(?<=\.)default\."
)  # PEFT's, which have no meaning here
_FEW_BLOCKS = 6
_MANY_BLOCKS = 64


class Run(NamedTuple):
    """Neighbouring tensors from `start` to before `stop`: those of one numbered block, or of none (number "")."""

    start: int
    stop: int
    stem: str
    number: str


def plain(name: str) -> str:
    """Return the name without PEFT's wrappers."""
    return _WRAPPERS.sub("", name)


def runs(names: Sequence[str]) -> list[Run]:
    """Find the names' blocks: "vit.layers.3.mlp.fc1.weight" is in block 3 of the stem "layers".

    A block is the first number in a name; the second, as in "stages.0.layers.2", if there are few of the first.
    A stem's label is the shortest that is unique. Tensors outside blocks have the label of their module.
    """
    parts = [plain(name).split(".") for name in names]
    blocks = [_block(path, 1) for path in parts]
    if len({block for block in blocks if block}) < _FEW_BLOCKS:
        finer = _finer(parts, blocks)
        if len({block for block in finer if block}) <= _MANY_BLOCKS:
            blocks = finer
    # A number that stands alone, a Sequential's, is no block.
    stems: dict[tuple[str, ...], set[str]] = {}
    for block in blocks:
        if block:
            stems.setdefault(block[:-1], set()).add(block[-1])
    real = {stem for stem, numbers in stems.items() if len(numbers) > 1 or _has_number(stem)}
    labels = _labels(real)
    prefixes = {stem[0] for stem in real if len(stem) > 1}
    keys = [
        (labels[block[:-1]], block[-1]) if block and block[:-1] in real else (_module(path, prefixes), "")
        for block, path in zip(blocks, parts, strict=True)
    ]
    found, start = [], 0
    for (stem, number), group in groupby(keys):
        stop = start + len(list(group))
        found.append(Run(start, stop, stem, number))
        start = stop
    return found


def _block(path: Sequence[str], depth: int) -> tuple[str, ...]:
    """Return the path up to the number of that depth, if one word separates the numbers; () if there is none."""
    numbers = [i for i, part in enumerate(path[:-1]) if part.isdecimal()]
    if len(numbers) < depth or (depth == 2 and numbers[1] != numbers[0] + 2):
        return ()
    return tuple(path[: numbers[depth - 1] + 1])


def _finer(parts: Sequence[Sequence[str]], blocks: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """
    Return the blocks within `blocks`, each of one stem; tensors between them join the block before, or else the next.
    """
    finer = [_block(path, 2) for path in parts]
    counts = Counter(inner[:-1] for inner in finer if inner)
    largest: dict[tuple[str, ...], int] = {}
    for inner, block in zip(finer, blocks, strict=True):
        if inner:
            largest[block] = max(largest.get(block, 0), counts[inner[:-1]])
    finer = [
        inner if inner and counts[inner[:-1]] == largest[block] else ()
        for inner, block in zip(finer, blocks, strict=True)
    ]
    order = range(len(blocks))
    for indices, step in ((order, -1), (reversed(order), 1)):
        for i in indices:
            neighbour = i + step
            if blocks[i] and not finer[i] and neighbour in order and blocks[neighbour] == blocks[i]:
                finer[i] = finer[neighbour]
    return [inner or block for inner, block in zip(finer, blocks, strict=True)]


def _has_number(stem: Sequence[str]) -> bool:
    return any(part.isdecimal() for part in stem)


def _labels(stems: set[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return the shortest endings that distinguish the stems; for "stages.0.layers", "stages.0"."""
    named = {stem: stem[:-1] if len(stem) > 1 and stem[-2].isdecimal() else stem for stem in stems}
    for length in range(1, max((len(path) for path in named.values()), default=0) + 1):
        labels = {stem: _ending(path, length) for stem, path in named.items()}
        if len(set(labels.values())) == len(labels):
            return labels
    return {stem: ".".join(stem) for stem in stems}


def _ending(path: Sequence[str], length: int) -> str:
    while length < len(path) and path[-length].isdecimal():
        length += 1
    return ".".join(path[-length:])


def _module(path: Sequence[str], prefixes: set[str]) -> str:
    """
    Return the outermost module below the base model, whose name begins the blocks' names; the name of a bare tensor.
    """
    return path[1] if path[0] in prefixes and len(path) > 2 else path[0]


def shortened(names: Sequence[str], limit: int, longest: int | None = None) -> list[str]:
    """Put an ellipsis in the middle of the names that are longer than `limit`.

    `limit` grows up to `longest` where two names would become the same.
    """
    longest = longest or limit
    different = len(set(names))
    for length in range(limit, longest + 1):
        short = [_shorten(name, length) for name in names]
        if len(set(short)) == different:
            return short
    return [_shorten(name, longest) for name in names]


def _shorten(name: str, limit: int) -> str:
    if len(name) <= limit:
        return name
    head = limit // 2
    return name[:head] + "…" + name[head + 1 + len(name) - limit :]
