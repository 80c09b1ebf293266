"""Checks on what users give: class lines, settings written as text, values for typed fields."""

import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from tagmask.clip.tokenizer import clean
from tagmask.errors import InputError

__all__ = ["class_lines", "fit_value", "parse_assignments", "parse_value"]


# -- Words ---------------------------------------------------------------------------------------------------


def class_lines(what: str, given: object) -> tuple[str, ...]:
    """A user's class lines: texts CLIP can read, each name once.

    Args:
        what: what they are, for messages: "words" or "background".
        given: should be an iterable of texts; several names of one class are separated by ", ".

    Raises:
        InputError: anything else, an empty name, or a name that stands twice.

    Example:
        >>> class_lines("words", ["cat", "dog,  puppy"])
        ('cat', 'dog, puppy')
        >>> class_lines("words", ["cat", "dog,   cat"])
        Traceback (most recent call last):
        tagmask.errors.InputError: words holds 'cat' twice; a name can belong to one class only
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"{what} is {given!r}; give a list of texts, as in {what}=['cat', 'dog']")
    lines: list[str] = []
    seen: set[str] = set()
    for line in given:
        if not isinstance(line, str):
            raise InputError(f"{what} holds {line!r}, a {type(line).__name__}; give texts only")
        names = [name.strip() for name in line.split(", ")]
        for name in names:
            _check_name(what, line, name)
            if name.casefold() in seen:
                raise InputError(f"{what} holds {name!r} twice; a name can belong to one class only")
            seen.add(name.casefold())
        lines.append(", ".join(names))
    return tuple(lines)


def _check_name(what: str, line: str, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} holds {line!r}, which is no valid text (broken encoding)") from error
    # Categories C and Z are control, format and blank characters: a name of these alone shows nothing.
    if all(unicodedata.category(character)[0] in "CZ" for character in clean(name)):
        raise InputError(
            f"{what} holds {line!r}, which has an empty name; give each class as one name, "
            "or as several separated by ', '"
        )


# -- Values --------------------------------------------------------------------------------------------------


def parse_assignments(given: Sequence[str]) -> dict[str, object]:
    """Settings from texts such as "prob_thd=0.3", "cwr=false", "crf=none", "method=maskclip".

    Raises:
        InputError: a text without "=", or a field twice.

    Example:
        >>> parse_assignments(["prob_thd=0.3", "attention_layers=[8, 9]", "method=maskclip", "crf=none"])
        {'prob_thd': 0.3, 'attention_layers': (8, 9), 'method': 'maskclip', 'crf': None}
    """
    settings: dict[str, object] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"the setting {text!r} has no value; give NAME=VALUE, as in prob_thd=0.3")
        if name.strip() in settings:
            raise InputError(f"the setting {name.strip()} is given twice; give it once")
        settings[name.strip()] = parse_value(value.strip())
    return settings


def parse_value(text: str) -> object:
    """A value as TOML writes it; "none" is None, a list becomes a tuple, anything else is the text itself."""
    if text == "none":
        return None
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    if isinstance(value, list):
        return tuple(value)
    return value if isinstance(value, bool | int | float | str) else text


def fit_value(name: str, value: object, hint: Any) -> object:  # noqa: ANN401
    """A value as a field's type takes it: lists as tuples, whole numbers where numbers are wanted.

    Args:
        name: of the field, for messages.
        value: as TOML or a caller has it.
        hint: the field's type: str, int, float, bool, tuples of these, and None.

    Raises:
        InputError: a value of another type.

    Example:
        >>> fit_value("scales", [1, 1.5], tuple[float, ...])
        (1.0, 1.5)
    """
    options = get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)
    wanted = [option for option in options if option is not NoneType]
    if value is None and NoneType in options:
        return None
    if value is None and str in wanted:
        return "none"  # `parse_value` cannot know that a text was meant
    for option in wanted:
        if get_origin(option) is tuple:
            if isinstance(value, list | tuple):
                return _fit_tuple(name, value, get_args(option))
        elif option is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        elif isinstance(value, option) and (option is bool or not isinstance(value, bool)):
            return value
    raise InputError(f"{name} is {value!r}; give {_kind(wanted[0])}")


def _fit_tuple(name: str, value: Sequence[object], kinds: tuple[Any, ...]) -> tuple[object, ...]:
    open_ended = kinds[-1] is Ellipsis
    if not open_ended and len(value) != len(kinds):
        raise InputError(
            f"{name} is {list(value)!r}; give {len(kinds)} values, as in [...], each {_kind(kinds[0])}"
        )
    own = [kinds[0]] * len(value) if open_ended else kinds
    return tuple(fit_value(name, item, kind) for item, kind in zip(value, own, strict=True))


def _kind(option: Any) -> str:  # noqa: ANN401
    if get_origin(option) is tuple:
        return f"a list, as in [...], each {_kind(get_args(option)[0])}"
    return _KINDS.get(option, "another value")


_KINDS: Mapping[type, str] = MappingProxyType(
    {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
)
