"""Parse and check user input: class lines, NAME=VALUE settings, values of typed fields."""

import math
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

from tagmask.checks import shown
from tagmask.clip.tokenizer import clean
from tagmask.errors import InputError

__all__ = [
    "SETTINGS_LIMIT",
    "class_lines",
    "dataset_name",
    "fit_value",
    "is_automatic",
    "parse_assignments",
    "parse_toml",
    "parse_value",
    "recipe_name",
]

SETTINGS_LIMIT: Final = 4_000_000
"""Largest file of settings, in bytes."""

_LONGEST_NAME: Final = 1000
"""Letters of a name; CLIP reads 77 tokens."""


# -- Names of data sets and recipes --------------------------------------------------------------------------

_DATASET_SPELLINGS: Mapping[str, str] = MappingProxyType(
    {"coco-stuff-10k": "coco-stuff10k", "coco-stuff-27": "coco-stuff27"}
)


def dataset_name(text: str) -> str:
    """Return the data set's name for another spelling of it; any other text as it is.

    Example:
        >>> dataset_name("coco-stuff-10k"), dataset_name("voc21")
        ('coco-stuff10k', 'voc21')
    """
    return _DATASET_SPELLINGS.get(text, text)


def recipe_name(text: str) -> str:
    """Return a recipe's name, METHOD/DATASET, with the data set's own spelling."""
    method, slash, dataset = text.partition("/")
    return f"{method}{slash}{dataset_name(dataset)}"


# -- Words ---------------------------------------------------------------------------------------------------


def class_lines(what: str, given: object) -> tuple[str, ...]:
    """Parse class lines: texts that CLIP can read, each name once.

    Args:
        what: what they are, for messages: "words" or "background".
        given: should be an iterable of texts; several names of one class are separated by ", ".

    Raises:
        InputError: no iterable of texts, an empty or very long name, or a name that occurs twice.

    Example:
        >>> class_lines("words", ["cat", "dog,  puppy"])
        ('cat', 'dog, puppy')
        >>> class_lines("words", ["cat", "dog,   cat"])
        Traceback (most recent call last):
        tagmask.errors.InputError: words has 'cat' twice. Give each name to one class only.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"{what} is {shown(given)}. Give a list of texts, as in {what}=['cat', 'dog'].")
    lines: list[str] = []
    seen: set[str] = set()
    for line in given:
        if not isinstance(line, str):
            raise InputError(f"{what} has {shown(line)}, a {type(line).__name__}. Give texts only.")
        names = [name.strip() for name in line.split(", ")]
        for name in names:
            _check_name(what, line, name)
            if name.casefold() in seen:
                raise InputError(f"{what} has {name!r} twice. Give each name to one class only.")
            seen.add(name.casefold())
        lines.append(", ".join(names))
    return tuple(lines)


def is_automatic(background: object) -> bool:
    """Whether a user asks for a background that is chosen for the words: "auto" in place of a list."""
    return isinstance(background, str) and background == "auto"


def _check_name(what: str, line: str, name: str) -> None:
    if len(name) > _LONGEST_NAME:
        raise InputError(
            f"{what} has {shown(name)}, a name of {len(name)} letters. CLIP reads at most 77 tokens. "
            "Shorten it, or give one word per line."
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} has {shown(line)}, which is not valid Unicode. Give it in UTF-8."
        ) from error
    # Categories C and Z are control, format and blank characters: a name of these alone is invisible.
    if all(unicodedata.category(character)[0] in "CZ" for character in clean(name)):
        raise InputError(
            f"{what} has {shown(line)}, which has an empty name. Give each class one name, "
            "or several separated by ', '."
        )


# -- Values --------------------------------------------------------------------------------------------------


def parse_assignments(given: Sequence[str]) -> dict[str, object]:
    """Parse settings such as "prob_thd=0.3", "cwr=false", "crf=none", "method=maskclip".

    Raises:
        InputError: a text has no "=", or a setting is given twice.

    Example:
        >>> parse_assignments(["prob_thd=0.3", "attention_layers=[8, 9]", "method=maskclip", "crf=none"])
        {'prob_thd': 0.3, 'attention_layers': (8, 9), 'method': 'maskclip', 'crf': None}
    """
    settings: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"The setting {shown(text)} has no value. Give NAME=VALUE, as in prob_thd=0.3.")
        if name.strip() in settings:
            raise InputError(f"The setting {name.strip()} is given twice. Give it once.")
        settings[name.strip()] = parse_value(value.strip())
    return settings


def parse_value(text: str) -> object:
    """Parse a value in TOML syntax; "none" is None, a list becomes a tuple, any other text stays text."""
    if text == "none":
        return None
    try:
        value = parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text
    if isinstance(value, list):
        return tuple(value)
    return value if isinstance(value, bool | int | float | str) else text


def parse_toml(text: str) -> dict[str, object]:
    """Parse TOML from outside.

    Raises:
        ValueError: it is not TOML, is nested too deeply, or has a number that is NaN, infinite or of more
            than 64 bits.

    Example:
        >>> parse_toml("scale = inf")
        Traceback (most recent call last):
        ValueError: inf is no finite number
    """
    if _LONG_KEY.search(_STRING.sub('""', text)):  # which the parser takes quadratic time and memory for
        raise ValueError("a key of more than 16 parts")
    try:
        parsed = tomllib.loads(text)
        _check_numbers(parsed)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return parsed


# A string that does not end is taken to the end of the line or text, so that the search stays linear.
_STRING: Final = re.compile(
    r'''"""(?:[^"\\]++|\\[\s\S]|"(?!""))*+(?:"{3,5}+|\Z)|"(?:[^"\\\n]++|\\.)*+(?:"|$)'''
    r"""|'''(?:[^']++|'(?!''))*+(?:'{3,5}+|\Z)|'[^'\n]*+(?:'|$)|\#.*+""",
    re.MULTILINE,
)
_LONG_KEY: Final = re.compile(r"""(?<![\w-])(?:[\w-]++|"")(?:[ \t]*+\.[ \t]*+(?:[\w-]++|"")){16}""", re.ASCII)


def _check_numbers(value: object) -> None:
    if isinstance(value, Mapping):
        for item in value.values():
            _check_numbers(item)
    elif isinstance(value, list):
        for item in value:
            _check_numbers(item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number of more than 64 bits")


def fit_value(name: str, value: object, hint: Any) -> object:  # noqa: ANN401
    """Convert a value to a field's type: a list to a tuple, a whole number to a float if needed.

    Args:
        name: of the field, for messages.
        value: from TOML or a caller.
        hint: the field's type: str, int, float, bool, tuples of these, and None.

    Raises:
        InputError: the value is of another type.

    Example:
        >>> fit_value("scales", [1, 1.5], tuple[float, ...])
        (1.0, 1.5)
    """
    options = get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)
    kinds = [option for option in options if option is not NoneType]
    if value is None and NoneType in options:
        return None
    if value is None and str in kinds:
        return "none"  # `parse_value` cannot know that the field takes a text
    for option in kinds:
        if get_origin(option) is tuple:
            if isinstance(value, list | tuple):
                return _fit_tuple(name, value, get_args(option))
        elif option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        elif isinstance(value, option) and (option is bool or not isinstance(value, bool)):
            return value
    raise InputError(f"{name} is {shown(value)}. Give {_kind(kinds[0])}.")


def _fit_tuple(name: str, value: Sequence[object], kinds: tuple[Any, ...]) -> tuple[object, ...]:
    open_ended = kinds[-1] is Ellipsis
    if not open_ended and len(value) != len(kinds):
        raise InputError(
            f"{name} is {shown(list(value))}. Give {len(kinds)} values, as in [...], each {_kind(kinds[0])}."
        )
    item_kinds = [kinds[0]] * len(value) if open_ended else kinds
    return tuple(fit_value(name, item, kind) for item, kind in zip(value, item_kinds, strict=True))


def _kind(option: Any) -> str:  # noqa: ANN401
    if get_origin(option) is tuple:
        return f"a list, as in [...], each {_kind(get_args(option)[0])}"
    return _KINDS.get(option, "another value")


_KINDS: Mapping[type, str] = MappingProxyType(
    {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
)
