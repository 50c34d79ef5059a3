"""YAML that grows, and YAML that does not."""

import datetime
import time

import pytest
import yaml

from hf_scorevi.hub.card_yaml import load_yaml


@pytest.mark.parametrize(
    "text",
    [
        "license: mit\ntags: [a, 'b']\n",
        "a: &x [1, {b: 2}]\nb: *x\nc: [*x, *x]\n",
        "a: &x {b: 1}\nc: {<<: *x, d: 2}\n",
        "day: 2024-01-02\nsexagesimal: 1:30:00\nhex: 0xff\nnone: ~\nfloat: 1e3\n",
        "text: 1 and much more text that begins with a digit but is none" + " and more" * 100 + "\n",
        "sum: " + "ab12" * 32 + "\n",
        "",
    ],
)
def test_what_yaml_makes_of_it_is_what_it_is(text):
    assert load_yaml(text) == yaml.safe_load(text)


def test_dates_are_dates():
    assert load_yaml("day: 2024-01-02\n") == {"day": datetime.date(2024, 1, 2)}


def bomb(levels, each="[{}]", first="[x, x, x, x, x, x, x, x, x]"):
    lines = [f"a0: &a0 {first}"]
    for i in range(1, levels):
        lines.append(f"a{i}: &a{i} " + each.format(", ".join([f"*a{i - 1}"] * 9)))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(12), "with what aliases stand for there are more than 50,000 values"),
        (bomb(12, "{{<<: [{}]}}", "{x: 1, y: 2}"), "with what aliases stand for"),
        (f"a: &a {'x' * 1000}\nb: [{', '.join(['*a'] * 2000)}]\n", "with what aliases stand for .* characters"),
        ("".join(f"a{i}: &a{i} [{f'*a{i - 1}' if i else ''}]\n" for i in range(60)), "50 within one another"),
        ("x: &x [*x]\n", "x holds itself"),
        ("x: &x {y: {<<: *x}}\n", "x holds itself"),
        ("x: &x [&x [*x], *x]\n", "holds itself|found duplicate anchor"),
        ("x: " + "[" * 100_000 + "\n", "50 within one another"),
        ("".join(" " * i + f"a{i}:\n" for i in range(200)), "50 within one another"),
        ("x:\n" + "- a\n" * 60_000, "more than 50,000 values"),
        ("x: 1" + ":1" * 100_000 + "\n", "has a number of 200,001 characters"),
        ("x: 0x" + "f" * 5000 + "\n", "has a number of 5,002 characters"),
        ("x: !!int '" + "1" * 5000 + "'\n", "has a number of 5,000 characters"),
        ("x: !!float '" + "1:" * 5000 + "1'\n", "has a number of"),
        ("x: 1_" + "0_" * 5000 + "0\n", "has a number of"),
        ("x: " + "y" * (1 << 20), "characters, where at most"),
        ("x: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        ("x: *y\n", "undefined alias"),
        ("a: [\n", "while parsing"),
    ],
    ids=range(19),
)
def test_what_grows_or_is_no_yaml_is_refused_soon(text, message):
    began = time.process_time()
    with pytest.raises(ValueError, match=message):
        load_yaml(text)
    assert time.process_time() - began < 5
