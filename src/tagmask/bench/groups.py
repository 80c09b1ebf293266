"""Coarser classes that some papers score by: a step of scoring alone, no method ever sees them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

__all__ = ["GROUPS", "Groups", "coco_stuff_from_raw", "grouping"]

GROUPS: Mapping[str, str] = MappingProxyType({"coco-stuff-27": "COCO-Stuff's 171 classes in 27 groups"})


@dataclass(frozen=True)
class Groups:
    """Which coarser class each class belongs to."""

    names: tuple[str, ...]
    members: tuple[int, ...]
    """Of each class, its group."""


@cache
def grouping(name: str) -> Groups:
    """The groups called `name`, one of `GROUPS`.

    Example:
        >>> groups = grouping("coco-stuff-27")
        >>> len(groups.members), groups.names[groups.members[0]]
        (171, 'person')
    """
    by_class = {index: group for _, index, group in _coco_stuff() if index is not None}
    names = tuple(_text(f"{name.replace('-', '_')}.txt").splitlines())
    return Groups(names, tuple(by_class[index] for index in sorted(by_class)))


@cache
def coco_stuff_from_raw() -> Mapping[int, int]:
    """Class 0 .. 170 of each raw id (0 .. 181) that COCO-Stuff's files use; eleven raw ids are never used."""
    return MappingProxyType({raw: index for raw, index, _ in _coco_stuff() if index is not None})


def _coco_stuff() -> list[tuple[int, int | None, int]]:
    rows = [line.split("\t") for line in _text("coco_stuff_ids.tsv").splitlines()[1:]]
    return [(int(raw), None if index == "-" else int(index), int(group)) for raw, index, group in rows]


def _text(file: str) -> str:
    return (resources.files(__package__) / "figures" / file).read_text(encoding="utf-8")
