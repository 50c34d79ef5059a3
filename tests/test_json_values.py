import math

import pytest

from hf_scorevi.json_values import (
    POSITIVE,
    is_number,
    is_whole,
    json_flag,
    json_list,
    json_number,
    json_object,
    json_text,
    json_whole,
    short,
)

DEEP: list = []
for _ in range(50_000):
    DEEP = [DEEP]


NO_NUMBERS = {
    "true": True,
    "null": None,
    "text": "1",
    "list": [1],
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "large": 10**400,
    "larger": 10**5000,
    "deep": DEEP,
}


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS.keys())
def test_what_is_no_finite_number_is_refused(value):
    assert not is_number(value)
    with pytest.raises(ValueError, match=r"^x must be a finite number, not ") as caught:
        json_number("x", value)
    assert len(str(caught.value)) < 120


def test_numbers_are_floats_within_their_bounds():
    assert json_number("x", 2) == 2.0 and isinstance(json_number("x", 2), float)
    assert json_number("x", 0, 0.0, 1.0) == 0.0 and json_number("x", 1, 0.0, 1.0) == 1.0
    for value, bounds, message in (
        (1.5, (0.0, 1.0), "x must be a finite number from 0 to 1, not 1.5"),
        (-0.5, (0.0,), "x must be a finite number of at least 0, not -0.5"),
        (0.0, (POSITIVE,), "x must be a finite number above 0, not 0.0"),
    ):
        with pytest.raises(ValueError) as caught:
            json_number("x", value, *bounds)
        assert str(caught.value) == message
    assert json_number("x", 1e-320, POSITIVE) == 1e-320


@pytest.mark.parametrize("value", [False, 1.0, "1", None, -1, 2**63])
def test_what_is_no_whole_number_is_refused(value):
    assert not is_whole(value)
    with pytest.raises(ValueError, match=r"^x must be a whole number from 0 to .*, not "):
        json_whole("x", value)


def test_whole_numbers_within_their_bounds():
    assert json_whole("x", 0) == 0 and json_whole("x", 2**63 - 1) == 2**63 - 1
    with pytest.raises(ValueError, match=r"^x must be a whole number from 1 to 9, not 0$"):
        json_whole("x", 0, 1, 9)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (json_flag, [True, False], [0, 1, None, "true"]),
        (json_text, ["a", " é ", "x" * 200], ["", " ", "a\nb", "a\u202eb", "\ud800", "x" * 201, 3, None]),
        (json_list, [[], [1, 2]], [{}, None, "ab", (1,)]),
        (json_object, [{}, {"a": 1}], [[], None, "ab"]),
    ],
)
def test_values_of_the_type_come_back_and_others_are_named(check, good, bad):
    for value in good:
        assert check("x", value) is value
    for value in bad:
        with pytest.raises(ValueError, match=r"^x must be .*, not "):
            check("x", value)


def test_lists_have_a_length_and_objects_their_keys():
    assert json_list("x", [1, 2], 2, 2) == [1, 2]
    with pytest.raises(ValueError, match=r"^x must be a list of 2 entries, not of 3$"):
        json_list("x", [1, 2, 3], 2, 2)
    with pytest.raises(ValueError, match=r"^x must be a list of 1 to 2 entries, not of 0$"):
        json_list("x", [], 1, 2)
    with pytest.raises(ValueError, match=r"^'b' is missing in x$"):
        json_object("x", {"a": 1}, ["a", "b"])


def test_messages_show_a_value_short_and_printable():
    assert short("a" * 10**6) == "'" + "a" * 299 + "…"
    assert short("a" * 10**6, 5) == "'aaaa…"
    assert short("\x1b[31mred\n\ud800") == r"'\x1b[31mred\n\ud800'"
    assert short(ValueError("two\nlines \x1b[31m")) == "two lines �[31m"
    assert short(DEEP) == short(10**5000) == "a value too long to show"
