"""The labels of a run by the names that another tool's files have for them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tagmask.errors import InputError
from tagmask.importers.canvas import Canvas
from tagmask.printable import short_repr, shortened
from tagmask.runs.classes import Classes
from tagmask.types import Size

__all__ = ["ClassMap", "parse_renamed"]

_SHOWN = 20
"""Words that a message names."""


class ClassMap:
    """Labels of a run, by name.

    Args:
        classes: of the run.
        renamed: words of the run for other names in the files.

    Raises:
        InputError: a name is to be read as something that is no word of the run.
    """

    def __init__(self, classes: Classes, renamed: Mapping[str, str] | None = None) -> None:
        self.names = classes.names
        self.ignore_index = classes.ignore_index
        self.dtype: np.dtype[Any] = np.dtype(np.uint8 if classes.ignore_index <= 255 else np.uint16)
        has_background = self.names[:1] == ("background",)
        self.ground = 0 if has_background else self.ignore_index
        """The label of pixels that no region covers: background; of a run without one, no class."""
        self._labels = {_plain(name): label for label, name in enumerate(self.names)}
        for name, word in (renamed or {}).items():
            if _plain(word) not in self._labels:
                raise InputError(f"{word!r} is no word of the run. {self._words()}")
            self._labels[_plain(name)] = self._labels[_plain(word)]

    @property
    def known(self) -> tuple[str, ...]:
        """All names that have a label."""
        return tuple(self._labels)

    def label(self, name: str) -> int:
        """Return the label of a name.

        Raises:
            InputError: the run has no such word.
        """
        found = self._labels.get(_plain(name))
        if found is None:
            shown = short_repr(name)
            raise InputError(
                f"the class {shown} is no word of the run. {self._words()} Read it as one of them with "
                f"--map {shown}=WORD, or rename it in the tool."
            )
        return found

    def canvas(self, size: Size) -> Canvas:
        """Return a label map without regions."""
        return Canvas(size, self.ground, self.dtype)

    def _words(self) -> str:
        more = f" and {len(self.names) - _SHOWN} more" if len(self.names) > _SHOWN else ""
        return f"Its words are {', '.join(map(shortened, self.names[:_SHOWN]))}{more}."


def parse_renamed(texts: Sequence[str], words: Sequence[str]) -> dict[str, str]:
    """Parse NAME=WORD of the command line; names and words may hold `=` themselves.

    Raises:
        InputError: a text does not have that form, or ends in no word of the run.

    Example:
        >>> parse_renamed(["kitty=cat", "a=b=c"], ["cat", "b=c"])
        {'kitty': 'cat', 'a': 'b=c'}
    """
    renamed = {}
    for text in texts:
        splits = [(text[:at], text[at + 1 :]) for at, sign in enumerate(text) if sign == "="]
        fitting = [(name, word) for name, word in splits if name and word in words]
        if not fitting:
            shown = ", ".join(map(shortened, words[:_SHOWN]))
            raise InputError(f"Invalid --map {text!r}. Give NAME=WORD with a word of the run: {shown}.")
        renamed[fitting[0][0]] = fitting[0][1]
    return renamed


def _plain(name: str) -> str:
    """Leave out blanks that tools add or remove."""
    return " ".join(name.split())
