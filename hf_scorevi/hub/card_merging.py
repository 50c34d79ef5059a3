"""Putting our part of a model card into what others have written: nothing of theirs is lost."""

from __future__ import annotations

import re
from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

__all__ = ["OWNER", "has_own_text", "identifier", "merge_cards"]

# Stands in the `args` of our figures, by which they are known.
OWNER = "hf_scorevi"
# The two lines of the template between which the text is ours.
_BLOCK = re.compile(r"<!-- hf_scorevi: begin.*?<!-- hf_scorevi: end -->", re.DOTALL)
_EMPTY_TEMPLATE = "# Model Card for Model ID"
_LISTS = ("tags", "datasets", "metrics")


def identifier(value: Any) -> str | None:
    """`value` if it can be a name on the Hub; a path of somebody's machine is nobody's business."""
    if isinstance(value, str) and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", value) and not value.startswith("."):
        return value
    return None


def merge_cards(existing: str | None, ours: str) -> str:
    """
    `ours` within what `existing` has beside it.

    Raises:
        ValueError: the existing card's metadata are no YAML mapping.
    """
    if existing is None or not existing.strip():
        return ours
    old, text = _split(existing)
    new, body = _split(ours)
    metadata = _merge_metadata(old, new)
    [block] = _BLOCK.findall(body)
    if _BLOCK.search(text):
        text = _BLOCK.sub(lambda _: block, text, count=1)
    elif _is_template(text):
        text = body
    else:
        text = text.rstrip() + "\n\n" + block + "\n"
    front = _front(existing) if metadata == old else f"---\n{yaml_dump(metadata).rstrip()}\n---\n"
    return front + "\n" + text.lstrip("\n")


def has_own_text(card: str) -> bool:
    """Whether somebody has written more into a card than libraries do: its title and our block."""
    _, text = _split(card)
    if _is_template(text):
        return False
    outside = [line for line in _BLOCK.sub("", text).splitlines() if line.strip()]
    return any(not (i == 0 and line.startswith("# ")) for i, line in enumerate(outside))


def _is_template(text: str) -> bool:
    """The Hub's empty card, as PEFT leaves it: a page of questions that nobody has answered."""
    text = text.strip()
    return not text or (text.startswith(_EMPTY_TEMPLATE) and text.count("[More Information Needed]") > 20)


def _front(card: str) -> str:
    match = REGEX_YAML_BLOCK.search(card)
    return match.group() if match else ""


def _split(card: str) -> tuple[dict[str, Any], str]:
    match = REGEX_YAML_BLOCK.search(card)
    if match is None:
        return {}, card
    try:
        metadata = yaml.safe_load(match.group(2)) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"The metadata at the head of README.md are no YAML: {error}. Mend them there.") from error
    if not isinstance(metadata, dict):
        raise ValueError("The metadata at the head of README.md are no mapping of names to values. Mend them there.")
    return metadata, card[match.end() :]


def _merge_metadata(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    merged = {key: value for key, value in old.items() if key != "base_model" or all(map(identifier, _listed(value)))}
    old = merged | {"tags": [tag for tag in _listed(old.get("tags")) if not _names_a_path(tag)]}
    for key, value in new.items():
        if key == "model-index":
            continue
        present = old.get(key)
        if key in _LISTS:
            listed = _listed(present)
            merged[key] = listed + [item for item in value if item not in listed]
        elif present in (None, "", []):
            merged[key] = value
    index = _merge_index(old.get("model-index"), new.get("model-index"))
    if index:
        merged["model-index"] = index
    else:
        merged.pop("model-index", None)
    return merged


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def _names_a_path(tag: Any) -> bool:
    """PEFT tags an adapter with its base, also where that is a folder of the author's machine."""
    kind, _, name = str(tag).rpartition(":")
    return kind.startswith("base_model") and identifier(name) is None


def _merge_index(old: Any, new: Any) -> list[Any]:
    """The results of others as they are, ours in the place of ours."""
    models = [dict(model) for model in old if isinstance(model, dict)] if isinstance(old, list) else []
    for model in models:
        kept = []
        for result in model.get("results") or []:
            metrics = result.get("metrics") if isinstance(result, dict) else None
            if isinstance(metrics, list):
                others = [metric for metric in metrics if not _is_ours(metric)]
                if not others:
                    continue
                result = result | {"metrics": others}
            kept.append(result)
        model["results"] = kept
    if new:
        if not models:
            return new
        models[0]["results"] = [*models[0]["results"], *new[0]["results"]]
    return [model for model in models if model["results"]]


def _is_ours(metric: Any) -> bool:
    args = metric.get("args") if isinstance(metric, dict) else None
    return isinstance(args, dict) and args.get("library") == OWNER
