"""The papers behind each method, as BibTeX. Their facts are in `citations.toml`."""

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

from tagmask.catalogue import describe_methods, registered_methods
from tagmask.checks import shown
from tagmask.errors import InputError

__all__ = ["bibtex", "cited_methods"]

_FIELD_WIDTH = 13
"""Of the longest name, archiveprefix, so that the values of an entry stand below one another."""


@cache
def _facts() -> Mapping[str, Any]:
    return tomllib.loads(resources.files("tagmask").joinpath("citations.toml").read_text(encoding="utf-8"))


def cited_methods() -> Mapping[str, tuple[str, ...]]:
    """Return the BibTeX keys of each method's papers, its own first."""
    papers = _facts()["papers"]
    return {name: tuple(papers[paper]["key"] for paper in own) for name, own in _facts()["methods"].items()}


def bibtex(methods: Iterable[str]) -> str:
    """Return the BibTeX entries of the papers behind some methods, each paper once.

    Args:
        methods: names from `tagmask.methods()`, or "mctformer" and "weakclip".

    Raises:
        InputError: no such method, or one that a user has registered.

    Example:
        >>> print(bibtex(["sclip"]))
        @inproceedings{wang2024sclip,
          author        = {F. Wang and J. Mei and A. Yuille},
          title         = {{SCLIP}: Rethinking Self-Attention for Dense Vision-Language Inference},
          booktitle     = {ECCV},
          year          = {2024},
        }
    """
    papers = dict.fromkeys(paper for name in methods for paper in _papers_of(name))
    return "\n\n".join(_entry(_facts()["papers"][paper]) for paper in papers)


def _papers_of(name: str) -> list[str]:
    known: dict[str, list[str]] = _facts()["methods"]
    if name in known:
        return known[name]
    if name in registered_methods():
        raise InputError(
            f"Method {name!r} is registered by a plugin and has no BibTeX entry here. "
            f"What it says of itself: {describe_methods()[name]}."
        )
    similar = get_close_matches(name, known, n=1)
    hint = f"Did you mean {similar[0]!r}? " if similar else ""
    raise InputError(f"Unknown method {shown(name)}. {hint}See `tagmask methods`.")


def _entry(paper: Mapping[str, object]) -> str:
    kind = "inproceedings" if "booktitle" in paper else "article" if "journal" in paper else "misc"
    fields = [f"  {name:<{_FIELD_WIDTH}} = {{{value}}}," for name, value in paper.items() if name != "key"]
    return "\n".join([f"@{kind}{{{paper['key']},", *fields, "}"])
