"""Relative paths that come from outside, such as from a list of images or a database."""

import re
from pathlib import PurePath, PurePosixPath

__all__ = ["is_below", "without_ending"]

_ZERO_OR_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def is_below(path: str) -> bool:
    """Whether a path leads to a file below the folder that it is joined to, and can be a file's name.

    Example:
        >>> [is_below(path) for path in ("a/b.jpg", "..a", "../a", "a/../../b", "/a", "", "a/", "a/./b")]
        [True, True, False, False, False, False, False, False]
    """
    if _ZERO_OR_NO_TEXT.search(path) or PurePath(path).drive or PurePath(path).root:
        return False
    # By slashes, since paths forget empty parts and dots; then as this system reads it.
    return {"", ".", ".."}.isdisjoint((*path.split("/"), *PurePath(path).parts))


def without_ending(path: str) -> str:
    """A path without its file's ending.

    Example:
        >>> without_ending("a.b/c.d.jpg")
        'a.b/c.d'
    """
    return str(PurePosixPath(path).with_suffix(""))
