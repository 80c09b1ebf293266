"""Score the papers' tag files against their lists of ground-truth classes, without images or a model."""

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
"""Number of raw ids in COCO-Stuff's files: 0 .. 181."""


@dataclass(frozen=True, kw_only=True)
class TagFileScores:
    """Scores of a tag file against a ground-truth list, over the images that both have."""

    f1: F1Scores
    """All 0..1."""
    right: int
    """Number of correct tags, over all images."""
    wrong: int
    missed: int
    images: int
    exact: int
    """Images whose tags are exactly the ground-truth tags."""
    without_tags: tuple[str, ...]
    """Images of the list that the tag file lacks."""
    not_listed: tuple[str, ...]
    """Images of the tag file that the list lacks."""

    @property
    def partial(self) -> bool:
        """Whether the scores do not cover the whole list."""
        return bool(self.without_tags or self.not_listed)


def read_truth(path: Path, classes: int, *, raw_coco_stuff: bool = False) -> Mapping[str, tuple[int, ...]]:
    """Read ground-truth classes by image from lines `IMAGE INDEX INDEX ...`.

    Args:
        path: the file.
        classes: number of classes.
        raw_coco_stuff: indices are COCO-Stuff's raw ids, 0 to 181 with gaps, and become 0 to 170.

    Raises:
        InputError: an invalid file, or an unused raw id.
    """
    if not raw_coco_stuff:
        return read_tags(path, classes)
    table = coco_stuff_from_raw()
    raw_ids = read_tags(path, _RAW)
    for name, ids in raw_ids.items():
        if unused := [raw for raw in ids if raw not in table]:
            raise InputError(
                f"{path} has the unused raw id {unused[0]} for {name!r}. Give COCO-Stuff's own raw ids."
            )
    return {name: tuple(table[raw] for raw in ids) for name, ids in raw_ids.items()}


def scored_tags(
    tags: Mapping[str, Sequence[int]], truth: Mapping[str, Sequence[int]], classes: int
) -> TagFileScores:
    """Score tags against ground-truth classes.

    Args:
        tags: chosen classes by image.
        truth: ground-truth classes by image; sets the order of the images.
        classes: number of classes.

    Raises:
        InputError: the two have no image in common.

    Example:
        >>> found = scored_tags({"a": [0], "b": [1]}, {"a": [0, 1], "b": [1]}, 2)
        >>> found.right, found.wrong, found.missed, round(found.f1.overall.recall, 3)
        (2, 0, 1, 0.667)
    """
    names = [name for name in truth if name in tags]
    if not names:
        raise InputError(
            "The tag file and the ground-truth list have no image in common. Give both for the same data set."
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
