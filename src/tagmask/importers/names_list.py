"""The `names:` of a data.yaml, without the rest of YAML."""

import json
import re

from tagmask.errors import InputError

__all__ = ["names_in_yaml"]

_KEY = re.compile(r"(?:'([^']*)'|\"([^\"]*)\"|(\d+))\s*:(?:\s+|$)(.*)")
_MOST = 65_535


def names_in_yaml(text: str, where: str) -> dict[int, str] | None:
    r"""Return the classes' names by index: a list or a mapping, on lines of their own or in brackets.

    Args:
        text: of the file.
        where: its name, for messages.

    Returns:
        None if there is no `names:`.

    Raises:
        InputError: the names have another form.

    Example:
        >>> names_in_yaml("train: a\nnames:\n  0: cat\n  1: 'hot dog'  # two words\n", "data.yaml")
        {0: 'cat', 1: 'hot dog'}
        >>> names_in_yaml("nc: 2\nnames: [cat, \"dog\"]\n", "data.yaml")
        {0: 'cat', 1: 'dog'}
    """
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if re.match(r"names\s*:", line)]
    if not starts:
        return None
    below = lines[starts[0] + 1 :]
    rest = _without_comment(lines[starts[0]].partition(":")[2])
    wrong = InputError(
        f"The names in {where} cannot be read. Write them as in `names: [cat, dog]`, or as lines `0: cat`."
    )
    try:
        if rest:
            entries = _bracketed(rest, below)
        else:
            entries = []
            for line in below:
                if line.strip() and not line.startswith((" ", "\t", "-")) and not line.startswith("#"):
                    break
                plain = _without_comment(line)
                if plain:
                    entries.append(plain)
            listed = [entry.startswith("- ") for entry in entries]
            if all(listed):
                entries = [entry[2:] for entry in entries]
            elif any(listed):
                raise wrong
        names = _by_index(entries)
    except ValueError as error:
        raise wrong from error
    if not names or len(names) > _MOST:
        raise wrong
    return names


def _by_index(entries: list[str]) -> dict[int, str]:
    pairs = [_KEY.fullmatch(entry.strip()) for entry in entries]
    if not any(pairs):
        return {number: _scalar(entry) for number, entry in enumerate(entries)}
    names = {}
    for pair in pairs:
        if pair is None:
            raise ValueError
        index = int(pair[1] or pair[2] or pair[3])
        if index in names or index > 10**8:
            raise ValueError
        names[index] = _scalar(pair[4])
    return names


def _bracketed(rest: str, below: list[str]) -> list[str]:
    """Return the parts between brackets, which may go on in the lines below."""
    closing = {"[": "]", "{": "}"}.get(rest[:1])
    if closing is None:
        raise ValueError
    parts, part, quote = [], "", ""
    for character in "\n".join([rest[1:], *map(_without_comment, below)]):
        if quote:
            escaped = quote == '"' and part.endswith("\\") and not part.endswith("\\\\")
            part += character
            quote = "" if character == quote and not escaped else quote
        elif character in "'\"" and not part.strip(" \n:0123456789"):
            part += character
            quote = character
        elif character in (",", closing):
            parts.append(part.strip())
            part = ""
            if character == closing:
                return [entry for entry in parts if entry]
        else:
            part += character
    raise ValueError


def _scalar(text: str) -> str:
    text = text.strip()
    if text.startswith('"'):
        value = json.loads(text)  # of YAML's escapes, those that JSON has
        if not isinstance(value, str):
            raise ValueError
        return value
    if text.startswith("'"):
        if len(text) < 2 or not text.endswith("'"):
            raise ValueError
        return text[1:-1].replace("''", "'")
    if not text or text[0] in "[]{}&*!|>%@`":
        raise ValueError
    return text


def _without_comment(line: str) -> str:
    """Remove a comment, which begins with a blank and #, outside of quotes."""
    quote = ""
    for at, character in enumerate(line):
        if quote:
            escaped = quote == '"' and line[at - 1] == "\\" and line[at - 2] != "\\"
            quote = "" if character == quote and not escaped else quote
        elif character in "'\"" and (at == 0 or line[at - 1] in " \t,[{:-"):
            quote = character
        elif character == "#" and (at == 0 or line[at - 1] in " \t"):
            return line[:at].strip()
    return line.strip()
