"""Coarser classes that some papers score by: a step of scoring alone, no method ever sees them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from tagmask.checks import check_choice
from tagmask.data.coco_stuff import coarse_names, raw_ids

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
    check_choice("groups", name, tuple(GROUPS))
    by_class = {index: group for _, index, group in raw_ids() if index is not None}
    return Groups(coarse_names(), tuple(by_class[index] for index in sorted(by_class)))


@cache
def coco_stuff_from_raw() -> Mapping[int, int]:
    """Class 0 .. 170 of each raw id (0 .. 181) that COCO-Stuff's files use; eleven raw ids are never used."""
    return MappingProxyType({raw: index for raw, index, _ in raw_ids() if index is not None})
