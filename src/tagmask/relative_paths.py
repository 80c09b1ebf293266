"""Relative paths that come from outside, such as from a list of images or a database."""

import re
from pathlib import PurePath, PurePosixPath

__all__ = ["is_below", "leads_outside", "without_ending"]

_NO_NAME = re.compile("[\0\ud800-\udfff]")
"""What no file that is named in text can have in its name."""


def leads_outside(path: str) -> bool:
    """Whether a path leads out of the folder that it is joined to, or can be no file's path.

    Example:
        >>> [leads_outside(path) for path in ("a/b.jpg", "..a", "a//b", "../a", "a/../../b", "/a", "")]
        [False, False, False, True, True, True, True]
    """
    if not path or _NO_NAME.search(path):
        return True
    system = PurePath(path)
    return bool(system.drive or system.root) or ".." in (*path.split("/"), *system.parts)


def is_below(path: str) -> bool:
    """Whether a path leads to a file below the folder that it is joined to, written in the one usual way.

    Example:
        >>> [is_below(path) for path in ("a/b.jpg", "../a", "/a", "a/", "a//b", "a/./b")]
        [True, False, False, False, False, False]
    """
    return not leads_outside(path) and {"", "."}.isdisjoint(path.split("/"))


def without_ending(path: str) -> str:
    """A path without its file's ending.

    Example:
        >>> without_ending("a.b/c.d.jpg")
        'a.b/c.d'
    """
    return str(PurePosixPath(path).with_suffix(""))
