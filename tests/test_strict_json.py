"""JSON holds no NaN and no infinities, and no JSON from outside ends the program."""

import pytest

from tagmask.errors import InputError
from tagmask.strict_json import json_text, parse_json


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_lacks_are_never_written(number: float) -> None:
    with pytest.raises(InputError, match="NaN or infinite"):
        json_text({"scores": [0.5, number]})


@pytest.mark.parametrize(
    "text",
    [
        "[NaN]",
        "[Infinity]",
        "[-Infinity]",
        "[1e999]",
        "[-1e999]",
        "[" + "1" * 5000 + "]",
        "[" * 100_000,
        '{"a":' * 100_000,
        "",
        "\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf\xff",
    ],
)
def test_hostile_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the reasons are the parser's own
        parse_json(text)


def test_values_are_read_as_written() -> None:
    value = {"a": [1, 2.5, "ü", None, True], "b": {"c": 1e-300}}
    assert parse_json(json_text(value)) == value
    assert parse_json(json_text(value, ensure_ascii=False).encode()) == value
