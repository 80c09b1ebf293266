"""The common form of all data sets: a sequence of samples, and the meaning of their indices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Integer

from tagmask.types import Image

__all__ = ["Dataset", "Labels", "Sample"]

Labels: TypeAlias = Integer[np.ndarray, "h w"]
"""Class index per pixel; the data set's `ignore` for pixels without a class."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its annotations. Cheap to keep and to pickle: pixels are read on demand."""

    id: str
    """Unique in its data set, as written in the data set's lists."""
    read_image: Callable[[], Image]
    """Returns upright RGB. Raises ImageError if the file is missing or damaged."""
    tags: tuple[int, ...] | None = None
    """Classes present, as indices into `Dataset.tag_classes`, ascending; None if unknown."""
    unsure: tuple[int, ...] = ()
    """Classes to leave out of scoring for this image."""
    read_mask: Callable[[], Labels] | None = None
    """Returns indices into `Dataset.classes`. Raises ImageError or ShapeError, naming the file."""
    path: Path | None = None
    """The image file, if there is one."""
    mask_path: Path | None = None
    """The mask file, if there is one."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A benchmark's images, in the order of its list."""

    name: str
    classes: tuple[str, ...]
    """Names of the mask indices, background first if there is one; () if there are only tags."""
    tag_classes: tuple[str, ...]
    """Names of the tag indices; () if there are only masks."""
    samples: Sequence[Sample]
    ignore: int = 255
    """Value of mask pixels that are not scored."""
    labelled: bool = True
    """False if the labels of this split are not published: only a benchmark's server can score it."""
