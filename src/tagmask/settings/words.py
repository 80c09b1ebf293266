"""Class names, background names and sentence templates of the papers, as data files beside this one."""

from functools import cache
from importlib import resources

__all__ = ["read_list"]


@cache
def read_list(name: str) -> tuple[str, ...]:
    """The lines of `words/NAME.txt`, in order: the line number is the class index."""
    text = (resources.files(__package__) / "words" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
