"""What a data set is to the rest of tagmask: names of classes, and images that are read when asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from tagmask.types import Image

__all__ = ["Dataset", "Sample"]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and what is known of it."""

    id: str
    """Unique in its data set."""
    read_image: Callable[[], Image]
    """uint8 (h, w, 3) upright RGB; picklable."""
    tags: tuple[int, ...] | None = None
    """Classes present, 0-based foreground numbering, ascending; None: not known."""
    unsure: tuple[int, ...] = ()
    """Classes to leave out of scoring for this image (VOC's 'difficult')."""
    read_mask: Callable[[], Integer[np.ndarray, "h w"]] | None = None
    """(h, w) class indices by `Dataset.classes`, `ignore` where none; None: there is no mask."""
    path: Path | None = None
    """The image's file, where it has one."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images in a fixed order, and the names of their classes."""

    name: str
    classes: tuple[str, ...]
    """What the masks' indices mean; the background, where there is one, comes first."""
    tag_classes: tuple[str, ...]
    """What the tags' numbers mean."""
    samples: Sequence[Sample]
    ignore: int = 255
    """Label of pixels that are not scored."""
