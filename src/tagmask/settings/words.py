"""The papers' lists of class names, background texts and prompt templates (`words/*.txt`)."""

from functools import cache
from importlib import resources

__all__ = ["read_list"]


@cache
def read_list(name: str) -> tuple[str, ...]:
    """Return the lines of `words/NAME.txt`, in order: a class's index is its line number, from 0."""
    text = (resources.files(__package__) / "words" / f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
