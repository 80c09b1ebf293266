"""What comes back: tags of an image, masks of an image. Plain frozen values."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image as PILImage

from tagmask.errors import ShapeError
from tagmask.files import write_bytes
from tagmask.images import ImageSource, read_image
from tagmask.masks import index_png, overlay

__all__ = ["Segmentation", "Tags", "ignore_index_for"]


@dataclass(frozen=True, eq=False)
class Tags:
    """Which words are in an image."""

    words: tuple[str, ...]
    """What each class is called. Foreground classes only."""
    scores: Float[np.ndarray, " c"]
    """Final score of each class, float32. Its range is the method's own: 0..1 for TagCLIP, PIAA and all with
    softmax; cosines for CLIP; others any number. To be compared within one image, unless calibrated."""
    chosen: tuple[int, ...]
    """Classes taken as present, ascending, counted from 0."""
    threshold: float
    """The score that the relative rule asked tags to exceed."""
    precision: str
    """Precision of the matrix products that ran."""
    thresholds: tuple[float, ...] | None = None
    """The score that each class had to exceed, where words have thresholds of their own."""

    @property
    def names(self) -> tuple[str, ...]:
        """The chosen words, best first."""
        order = sorted(self.chosen, key=lambda c: (-float(self.scores[c]), c))
        return tuple(self.words[c] for c in order)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Where the words are in an image."""

    words: tuple[str, ...]
    """What each label is called; the background, where there is one, comes first."""
    labels: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]
    """Index into `words` per pixel, at the image's own upright size; the largest value means nothing."""
    scores: Float[np.ndarray, "c h w"] | None = field(repr=False)
    """Score of each class per pixel, if they were asked for."""
    background: bool
    """Label 0 is the background."""
    precision: str
    """Precision of the matrix products that ran."""
    tags: tuple[int, ...] | None = None
    """Classes that the masks were restricted to, by methods that do so."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the labels as an index PNG (with PASCAL VOC's palette; 16-bit grey from 256 classes on).

        Raises:
            OutputError: the file cannot be written.
        """
        write_bytes(Path(path), index_png(self.labels))

    def overlay(self, image: ImageSource) -> PILImage.Image:
        """The labels drawn over the image they were made from.

        Raises:
            ShapeError: the image has another size.
        """
        pixels = read_image(image)
        if pixels.shape[:2] != self.labels.shape:
            raise ShapeError(
                f"the image is {pixels.shape[:2]} (h, w) and the labels are {self.labels.shape}; "
                "give the image that they were made from"
            )
        return overlay(pixels, self.labels, self.words, skip=frozenset({0} if self.background else ()))

    def shares(self) -> dict[str, float]:
        """Share of the image's pixels that each word present has, largest first."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.words))[: len(self.words)]
        order = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c]]
        return {self.words[c]: float(counts[c] / self.labels.size) for c in order}


def ignore_index_for(classes: int) -> int:
    """The label that means nothing: 255, or 65535 where 255 is a class.

    Example:
        >>> ignore_index_for(21), ignore_index_for(255), ignore_index_for(256)
        (255, 255, 65535)
    """
    return 255 if classes <= 255 else 65535
