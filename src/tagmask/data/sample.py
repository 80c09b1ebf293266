"""What every data set becomes: a sequence of samples, and what their numbers mean."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Integer

from tagmask.errors import InputError
from tagmask.types import Image

__all__ = ["Dataset", "Labels", "Sample", "chosen"]

Labels: TypeAlias = Integer[np.ndarray, "h w"]
"""Class index per pixel; the data set's `ignore` where there is none."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and what is known of it: cheap to hold and to send away; pixels are read when asked for."""

    id: str
    """Unique in its data set, as the set's own lists have it."""
    read_image: Callable[[], Image]
    """Gives upright RGB. Raises ImageError where the file is absent or damaged."""
    tags: tuple[int, ...] | None = None
    """Classes present, by `Dataset.tag_classes`, ascending; None: not known."""
    unsure: tuple[int, ...] = ()
    """Classes to leave out of scoring for this image."""
    read_mask: Callable[[], Labels] | None = None
    """Gives class indices by `Dataset.classes`. Raises ImageError or ShapeError, naming file and fault."""
    path: Path | None = None
    """Of the image file, where there is one."""
    mask_path: Path | None = None
    """Of the mask file, where there is one."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A benchmark's images, in the order of its list."""

    name: str
    classes: tuple[str, ...]
    """What a mask's indices mean, background first where the set has one; () if there are only tags."""
    tag_classes: tuple[str, ...]
    """What tags number; () if there are only masks."""
    samples: Sequence[Sample]
    ignore: int = 255
    """Value of mask pixels that are not scored."""


def chosen(dataset: Dataset, ids: Iterable[str]) -> Dataset:
    """The same data set with only these images, in this order.

    Raises:
        InputError: an id that the data set's list does not have.
    """
    known = {sample.id: sample for sample in dataset.samples}
    wanted = list(ids)
    strangers = [i for i in wanted if i not in known]
    if strangers:
        raise InputError(
            f"{len(strangers)} of {len(wanted)} ids are not in the list of {dataset.name} ({len(known)} "
            f"images), such as {strangers[0]!r}; its own look like {next(iter(known), '(none)')!r}"
        )
    return replace(dataset, samples=[known[i] for i in wanted])
