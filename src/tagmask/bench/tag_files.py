"""The papers' tag files, scored against their lists of true classes: no image is read, no model runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagmask.bench.groups import coco_stuff_from_raw
from tagmask.bench.tag_metrics import F1Scores, f1_of_decisions
from tagmask.errors import InputError
from tagmask.runtime.tag_files import read_tags

__all__ = ["TagFileScores", "read_truth", "scored_tags"]

_RAW = 182
"""Raw ids of COCO-Stuff's files: 0 .. 181."""


@dataclass(frozen=True, kw_only=True)
class TagFileScores:
    """How well the tags of a file agree with a list, over the images of the list that the file has."""

    f1: F1Scores
    """All 0..1."""
    right: int
    """Tags that are true, over all images."""
    wrong: int
    missed: int
    images: int
    exact: int
    """Images whose tags are just the true ones."""
    without_tags: tuple[str, ...]
    """Images of the list that the file does not have."""
    not_listed: tuple[str, ...]
    """Images of the file that the list does not have."""

    @property
    def partial(self) -> bool:
        """The scores are not those of the whole list."""
        return bool(self.without_tags or self.not_listed)


def read_truth(path: Path, classes: int, *, raw_coco_stuff: bool = False) -> Mapping[str, tuple[int, ...]]:
    """A list of true classes by image: lines `IMAGE INDEX INDEX ...`.

    Args:
        path: the file.
        classes: how many there are.
        raw_coco_stuff: indices are COCO-Stuff's raw ids, 0 to 181 with gaps, and become 0 to 170.

    Raises:
        InputError: a file that is none, or a raw id that stands for no class.
    """
    if not raw_coco_stuff:
        return read_tags(path, classes)
    table = coco_stuff_from_raw()
    found = read_tags(path, _RAW)
    for name, ids in found.items():
        if strange := [raw for raw in ids if raw not in table]:
            raise InputError(f"{path} has the raw id {strange[0]} for {name!r}, which COCO-Stuff never uses")
    return {name: tuple(table[raw] for raw in ids) for name, ids in found.items()}


def scored_tags(
    tags: Mapping[str, Sequence[int]], truth: Mapping[str, Sequence[int]], classes: int
) -> TagFileScores:
    """Score tags against true classes.

    Args:
        tags: classes taken as present, by image.
        truth: classes that are present, by image; its order is that of the images.
        classes: how many there are.

    Raises:
        InputError: no image in common.

    Example:
        >>> found = scored_tags({"a": [0], "b": [1]}, {"a": [0, 1], "b": [1]}, 2)
        >>> found.right, found.wrong, found.missed, round(found.f1.overall.recall, 3)
        (2, 0, 1, 0.667)
    """
    names = [name for name in truth if name in tags]
    if not names:
        raise InputError(
            "no image of the tags is in the list of true classes; check that both are of one set"
        )
    chosen, present = (np.zeros((len(names), classes), bool) for _ in range(2))
    for i, name in enumerate(names):
        chosen[i, list(tags[name])] = True
        present[i, list(truth[name])] = True
    return TagFileScores(
        f1=f1_of_decisions(chosen, present),
        right=int((chosen & present).sum()),
        wrong=int((chosen & ~present).sum()),
        missed=int((~chosen & present).sum()),
        images=len(names),
        exact=int((chosen == present).all(axis=1).sum()),
        without_tags=tuple(name for name in truth if name not in tags),
        not_listed=tuple(name for name in tags if name not in truth),
    )
