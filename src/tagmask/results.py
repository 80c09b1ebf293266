"""Results: the tags of an image (`Tags`) and its masks (`Segmentation`), as frozen dataclasses."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float16, UInt8, UInt16
from PIL import Image as PILImage

from tagmask.errors import ShapeError
from tagmask.files import write_bytes
from tagmask.images import ImageSource, read_image
from tagmask.masks import index_png, overlay

__all__ = ["Segmentation", "Tags", "ignore_index_for"]


@dataclass(frozen=True, eq=False)
class Tags:
    """Which words are in an image: the result of a `Tagger`."""

    words: tuple[str, ...]
    """The name of each class; the background is never among them."""
    scores: Float[np.ndarray, " c"]
    """Score of each class, float32. The range depends on the method: 0..1 for TagCLIP, PIAA and methods with
    a softmax, cosine similarities for CLIP, any number for others. Compare scores within one image only,
    unless the tagger is calibrated."""
    chosen: tuple[int, ...]
    """Indices into `words` of the classes that are present, ascending."""
    threshold: float
    """The score that a tag must exceed by the recipe's relative threshold (`tag_tau`)."""
    precision: str
    """Precision of the matrix products: "float32", "bfloat16" or "float16"."""
    thresholds: tuple[float, ...] | None = None
    """The score that each class must exceed, if the tagger is calibrated; else None."""

    @property
    def names(self) -> tuple[str, ...]:
        """The words that are present, highest score first."""
        order = sorted(self.chosen, key=lambda c: (-float(self.scores[c]), c))
        return tuple(self.words[c] for c in order)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Where the words are in an image: the result of a `Segmenter`."""

    words: tuple[str, ...]
    """The name of each label; "background" first if there is one."""
    labels: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]
    """Index into `words` per pixel, at the size of the upright image. Pixels of no class have the ignore
    index: 255 (uint8), or 65535 (uint16, from 256 classes on)."""
    scores: Float[np.ndarray, "c h w"] | None = field(repr=False)
    """Score of each class per pixel, float32, on request (`scores=True`); else None."""
    background: bool
    """Whether label 0 is the background."""
    precision: str
    """Precision of the matrix products: "float32", "bfloat16" or "float16"."""
    tags: tuple[int, ...] | None = None
    """The classes that the masks were restricted to, counted without the background; None: all classes."""
    class_confidence: dict[str, float] | None = None
    """Mean winning score over the pixels of each class found, 0..1, the background included; on request
    (`confidence=True`), else None."""
    confidence: float | None = None
    """The smallest class confidence among the foreground classes found. If none was found: 1 minus the
    greatest foreground score. On request, as `class_confidence`."""
    cams: Float16[np.ndarray, "k h w"] | None = field(default=None, repr=False)
    """Activation map of each of `tags`, 0..1, before the background and a CRF; on request (`cams=True`), else
    None."""

    @property
    def absent(self) -> tuple[str, ...]:
        """The words given that have no pixel, in order; the background is not among them."""
        counts = self.pixels()
        return tuple(word for word in self.words[int(self.background) :] if word not in counts)

    def pixels(self) -> dict[str, int]:
        """Map each word present to its number of pixels, in the order of the words."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.words))[: len(self.words)]
        return {word: int(count) for word, count in zip(self.words, counts, strict=True) if count}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the labels as an index PNG: PASCAL VOC's palette, or 16-bit grey from 256 classes on.

        Args:
            path: the file to write; missing folders are made.

        Raises:
            OutputError: the file cannot be written.
        """
        write_bytes(Path(path), index_png(self.labels))

    def overlay(self, image: ImageSource) -> PILImage.Image:
        """Draw the labels over their image: tinted regions with outlines and names.

        Args:
            image: the image that was masked. The background is left untinted.

        Returns:
            An RGB image of the same size.

        Raises:
            ShapeError: the image and the labels differ in size.
            ImageError: the image cannot be read.
        """
        pixels = read_image(image)
        if pixels.shape[:2] != self.labels.shape:
            raise ShapeError(
                f"The image has size {pixels.shape[:2]} (h, w), the labels have {self.labels.shape}. "
                "Give the image that was masked."
            )
        return overlay(pixels, self.labels, self.words, skip=frozenset({0} if self.background else ()))

    def shares(self) -> dict[str, float]:
        """Map each word present to its share of the image's pixels, 0..1, largest first."""
        counts = sorted(self.pixels().items(), key=lambda item: -item[1])
        return {word: count / self.labels.size for word, count in counts}


def ignore_index_for(classes: int) -> int:
    """Return the label of pixels of no class: 255, or 65535 if there are more than 255 classes.

    Example:
        >>> ignore_index_for(21), ignore_index_for(255), ignore_index_for(256)
        (255, 255, 65535)
    """
    return 255 if classes <= 255 else 65535
