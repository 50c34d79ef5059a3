"""What may stand on a model card, and putting our part of one into what others have written: they lose nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from typing import Any

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

from ..errors import InputError
from .card_yaml import load_yaml
from .untrusted import short

__all__ = [
    "MAX_CARD_BYTES",
    "OWNER",
    "add_metadata",
    "cell",
    "has_own_text",
    "identifier",
    "listed",
    "merge_cards",
    "names_of",
    "one_line",
    "plain",
]

MAX_CARD_BYTES = 4 << 20
# Stands in the `args` of our figures, by which they are known.
OWNER = "hf_scorevi"
# From one of the two lines of the template to the other, between which the text is ours.
_BLOCK = re.compile(
    r"^<!-- hf_scorevi: begin(?:(?!^<!-- hf_scorevi: begin).)*?^<!-- hf_scorevi: end -->", re.DOTALL | re.MULTILINE
)
_NAME = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?", re.ASCII)
# What means something to Markdown within a line; an underscore inside a word does not.
_MARKUP = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])|(?<=:)/(?=/)|(?<=www)\.", re.IGNORECASE)
_MAX_TEXT = 200
_LISTS = ("tags", "datasets", "metrics")


def identifier(value: Any) -> str | None:
    """Return `value` if it can be a name on the Hub; a path of somebody's machine is nobody's business."""
    if isinstance(value, str) and _NAME.fullmatch(value) and not os.path.exists(value):
        return value
    return None


def one_line(text: str) -> str:
    """Return what can be printed of `text`, and not too much of it."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:_MAX_TEXT]


def plain(text: str) -> str:
    """Return `text` on one line that Markdown takes as it is, in a table's cell or elsewhere."""
    return _MARKUP.sub(r"\\\g<0>", one_line(text))


def cell(value: Any) -> str:
    """Return a setting, of any type, as it stands in a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return plain(", ".join(str(part) for part in listed(value) if isinstance(part, str | int | float))) or "–"


def listed(value: Any) -> list[Any]:
    """Return what may be one thing, several or none, as a list."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def merge_cards(existing: str | None, ours: str, said: Mapping[str, Collection[str]] | None = None) -> str:
    """
    Return `ours` within what `existing` has beside it.

    Args:
        said: the keys of our metadata that somebody has asked for by name just now: they replace what is there, of a
            list the values that stand beside the key. With `name`, so does our title, where nobody has written more.

    Raises:
        InputError: the existing card's metadata are no YAML mapping, or its `model-index` is not as the Hub has it.
    """
    if existing is None or not existing.strip("\ufeff \t\r\n"):
        return ours
    line_end = "\r\n" if "\r\n" in existing else "\n"
    yaml_text, text = _split(existing)
    new_yaml, body = _split(ours)
    said = said or {}
    front = _merge_yaml(yaml_text, _parse(new_yaml), said)
    with_title = "name" in said and not has_own_text(existing)
    merged = f"---\n{front}---\n\n{_merge_text(text, body, with_title)}\n"
    return merged.replace("\n", line_end)


def add_metadata(existing: str, other: str) -> str:
    """
    Return the card `existing` with what the metadata of `other` have beyond its own.

    Raises:
        InputError: as `merge_cards`.
    """
    line_end = "\r\n" if "\r\n" in existing else "\n"
    yaml_text, text = _split(existing)
    front = _merge_yaml(yaml_text, _parse(_split(other)[0]), {})
    return f"---\n{front}---\n{text}".replace("\n", line_end)


def names_of(card: str | None, key: str) -> list[str]:
    """Return what a card's metadata have under `key` (`base_model`, `datasets`), as far as it is on the Hub."""
    found = [] if card is None else listed(_parse(_split(card)[0]).get(key))
    return [name for name in found if identifier(name)]


def has_own_text(card: str) -> bool:
    """Return whether somebody has written more into a card than libraries do: its title and our block."""
    _, text = _split(card)
    if _is_empty_template(text):
        return False
    outside = [line for line in _BLOCK.sub("", text).splitlines() if line.strip()]
    return any(not (i == 0 and line.startswith("# ")) for i, line in enumerate(outside))


def _split(card: str) -> tuple[str, str]:
    """Return the lines of YAML, each with its end, and the text."""
    card = card.removeprefix("\ufeff").replace("\r\n", "\n")
    match = REGEX_YAML_BLOCK.search(card)
    return (match.group(2) + "\n", card[match.end() :]) if match else ("", card)


def _parse(text: str) -> dict[str, Any]:
    try:
        metadata = load_yaml(text) or {}
    except ValueError as error:
        raise InputError(
            f"The metadata at the head of README.md are no YAML: {short(error)}. Mend them there."
        ) from error
    if not isinstance(metadata, dict):
        raise InputError("The metadata at the head of README.md are no mapping of names to values. Mend them there.")
    return metadata


def _merge_text(text: str, body: str, with_title: bool) -> str:
    if _is_empty_template(text):
        return body.strip("\n")
    if with_title:
        text = re.sub(r"\A\n*# .*", lambda _: body.strip("\n").splitlines()[0], text)
    (block,) = _BLOCK.findall(body)
    if match := _BLOCK.search(text):
        text = text[: match.start()] + block + _BLOCK.sub("", text[match.end() :])
    else:
        text = f"{text.rstrip()}\n\n{block}"
    return text.strip("\n")


def _is_empty_template(text: str) -> bool:
    """Return whether it is the Hub's page of questions, as PEFT leaves it, to which nobody has added a line."""
    questions = {line.strip() for line in ModelCard.from_template(ModelCardData()).text.splitlines()}
    lines = {line.strip() for line in text.splitlines()} - {"### Framework versions"}
    return all(line in questions or line.startswith("- PEFT ") for line in lines)


def _merge_yaml(text: str, new: dict[str, Any], said: Mapping[str, Collection[str]]) -> str:
    """Return the lines of `text`, but for the keys that change."""
    old = _parse(text)
    merged = _merge_metadata(old, new, said)
    if merged == old:
        return text
    try:
        lines = _with_changes(text, merged)
        if load_yaml(lines) == merged:
            return lines
    except (ValueError, TypeError):
        pass  # the keys do not come apart
    return _dump(merged)


def _with_changes(text: str, values: dict[str, Any]) -> str:
    lines, added = "", dict(values)
    for part in re.split(r"^(?=[^\s-])", text, flags=re.MULTILINE):  # a comment, or a key with what is its
        own = load_yaml(part) or {}
        kept = {key: added.pop(key) for key in own if key in added}
        lines += part if kept == own else _dump(kept)
    return lines + _dump(added)


def _dump(values: dict[str, Any]) -> str:
    return yaml_dump(values, sort_keys=False) if values else ""


def _merge_metadata(old: dict[str, Any], new: dict[str, Any], said: Mapping[str, Collection[str]]) -> dict[str, Any]:
    merged = dict(old)
    for key, is_private in (("base_model", _is_folder), ("tags", _names_a_folder)):
        kept = [value for value in listed(old.get(key)) if not is_private(value)]
        if kept != listed(old.get(key)):
            merged[key] = kept
    for key, value in new.items():
        present = merged.get(key)
        if key == "model-index":
            continue
        if key in _LISTS:
            kept = [item for item in listed(present) if item in value or item not in said.get(key, ())]
            missing = [item for item in value if item not in kept]
            if missing or kept != listed(present):
                merged[key] = kept + missing
        elif key in said or present in (None, "", []):
            merged[key] = value
    if merged.get("base_model") == []:
        del merged["base_model"]
    index = _merge_index(old.get("model-index"), new.get("model-index"))
    if index:
        merged["model-index"] = index
    else:
        merged.pop("model-index", None)
    return merged


def _is_folder(name: Any) -> bool:
    return identifier(name) is None


def _names_a_folder(tag: Any) -> bool:
    """PEFT tags an adapter with its base, also where that is a folder of the author's machine."""
    match = re.fullmatch(r"base_model:(?:\w+:)?(.*)", str(tag), re.DOTALL)
    return match is not None and _is_folder(match.group(1))


def _merge_index(old: Any, new: Any) -> list[dict[str, Any]]:
    """Return the results of others as they are, ours in the place of ours."""
    old = listed(old)
    if not all(isinstance(model, dict) and isinstance(model.get("results"), list) for model in old):
        raise InputError(
            "model-index in the metadata at the head of README.md is no list of models with a name and results. Mend "
            "it there, or delete it."
        )
    merged = []
    for model in old:
        results = [result for result in map(_without_ours, model["results"]) if result is not None]
        if results or not model["results"]:
            merged.append(model | {"results": results})
    if not merged or not new:
        return merged or new or []
    return [merged[0] | {"results": merged[0]["results"] + new[0]["results"]}, *merged[1:]]


def _without_ours(result: Any) -> Any:
    """Return a result less our figures, `None` if there are no others."""
    metrics = result.get("metrics") if isinstance(result, dict) else None
    if not isinstance(metrics, list) or not metrics:
        return result
    others = [metric for metric in metrics if not _is_ours(metric)]
    return result | {"metrics": others} if others else None


def _is_ours(metric: Any) -> bool:
    args = metric.get("args") if isinstance(metric, dict) else None
    return isinstance(args, dict) and args.get("library") == OWNER
