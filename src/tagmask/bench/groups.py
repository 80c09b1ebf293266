"""Coarser classes that some papers score on; used only in scoring, never by a method."""

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
    """The coarser class of each class."""

    names: tuple[str, ...]
    members: tuple[int, ...]
    """Group index of each class."""


@cache
def grouping(name: str) -> Groups:
    """Return the groups called `name`, one of `GROUPS`.

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
    """Map COCO-Stuff's raw ids (0 .. 181) to classes 0 .. 170; eleven raw ids are unused."""
    return MappingProxyType({raw: index for raw, index, _ in raw_ids() if index is not None})
