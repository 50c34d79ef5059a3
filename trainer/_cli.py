"""The command line of a training program: a recipe file, flags over it, and a `--help` that can be read."""

from __future__ import annotations

import argparse
import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser, TrainingArguments
from transformers.hf_argparser import string_to_bool

__all__ = ["parse"]

_RECIPE_SUFFIXES = (".yaml", ".yml", ".json")


class _YamlLoader(yaml.SafeLoader):
    """Reads 1e-4 as a number, as JSON and Python do; YAML's own rule wants 1.0e-4."""


_YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse(dataclasses: Sequence[Any], argv: Sequence[str], description: str, examples: str) -> tuple[Any, ...]:
    """
    `argv` as one instance of each of `dataclasses`; the last may be a subclass of `TrainingArguments`.

    A first argument that is no flag is a recipe, a YAML or JSON file of the same settings. Flags override it.
    Mistakes end the program with a sentence (`SystemExit`), as is usual for a command line.
    """
    parser = HfArgumentParser(
        dataclasses,
        usage="%(prog)s [RECIPE.yaml] [--flag value ...]",
        description=description,
        epilog=examples,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,  # a misspelt flag is an error, not another flag
    )
    _tidy(parser, dataclasses[-1])
    argv = list(argv)
    if argv and not argv[0].startswith("-"):
        parser.set_defaults(**_read_recipe(parser, Path(argv.pop(0))))
    try:
        return parser.parse_args_into_dataclasses(argv, look_for_args_file=False)
    except ValueError as error:
        parser.error(str(error))


def _read_recipe(parser: argparse.ArgumentParser, path: Path) -> dict[str, Any]:
    """The settings in `path`, as argparse takes defaults."""
    if path.suffix not in _RECIPE_SUFFIXES:
        parser.error(f"expected a flag or a recipe that ends in {', '.join(_RECIPE_SUFFIXES)}, not {str(path)!r}")
    if not path.is_file():
        parser.error(f"there is no recipe {str(path)!r}")
    text = path.read_text(encoding="utf-8")
    try:
        recipe = json.loads(text) if path.suffix == ".json" else yaml.load(text, _YamlLoader)
    except (ValueError, yaml.YAMLError) as error:
        parser.error(f"the recipe {str(path)!r} cannot be read: {error}")
    if not isinstance(recipe, dict):
        parser.error(f"the recipe {str(path)!r} must be a mapping of flags to values")
    known = {action.dest: action for action in reversed(parser._actions)}  # the first of --x and --no_x
    known.pop("help")
    unknown = [str(key) for key in recipe if key not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=3)
        hint = f" (close to {unknown[0]}: {', '.join(near)})" if near else ""
        parser.error(f"the recipe {str(path)!r} has unknown keys: {', '.join(unknown)}{hint}")
    defaults = {key: _as_default(known[key], value) for key, value in recipe.items()}
    for key, value in defaults.items():  # argparse checks the choices of flags only
        choices = known[key].choices
        if choices is not None and value is not None and value not in choices:
            parser.error(f"the recipe {str(path)!r} has {key}: {value}; choose from {', '.join(map(str, choices))}")
    return defaults


def _as_default(action: argparse.Action, value: Any) -> Any:
    """
    A recipe's value in the form in which argparse converts and checks it as it does a flag's: text.

    So `seed: 2.5` is refused as `--seed 2.5` is.
    """
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return list(value)
    if action.nargs == "+":
        return [value]
    if value is False and action.type is not string_to_bool:
        return "no"  # `save_strategy: no`: YAML takes an unquoted no for False
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _tidy(parser: argparse.ArgumentParser, training_arguments: Any) -> None:
    """The many arguments of `TrainingArguments` get a group, behind what this program adds; --no_x is unlisted."""
    inherited = {field.name for field in fields(TrainingArguments)}
    stock = parser.add_argument_group("training: what transformers.TrainingArguments has")
    for group in parser._action_groups:
        if group.title == training_arguments._argument_group_name:
            stock._group_actions = [action for action in group._group_actions if action.dest in inherited]
            group._group_actions = [action for action in group._group_actions if action.dest not in inherited]
    for action in parser._actions:
        if isinstance(action, argparse._StoreFalseAction):
            action.help = argparse.SUPPRESS


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the layout of description and examples; one spelling of each flag; no "(default: None)"."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if action.nargs == 0:
            return super()._format_action_invocation(action)
        if action.choices is not None and len(list(action.choices)) < 6:
            metavar = "{" + ",".join(str(choice) for choice in action.choices) + "}"
        elif action.type is string_to_bool:
            metavar = "BOOL"
        else:
            metavar = {int: "INT", float: "FLOAT"}.get(action.type, "NAME")  # type: ignore[call-overload]
        return f"{action.option_strings[0]} {metavar}{' ...' if action.nargs == '+' else ''}"

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None:
            return action.help
        if isinstance(action.default, list):
            return f"{action.help} (default: {' '.join(action.default)})"
        return super()._get_help_string(action)
