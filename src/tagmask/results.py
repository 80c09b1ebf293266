"""Results: the tags of an image (`Tags`) and its masks (`Segmentation`), as frozen dataclasses."""

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float16, UInt8, UInt16
from PIL import Image as PILImage

from tagmask.checks import check_choice, check_installed, check_number, did_you_mean, shown
from tagmask.errors import InputError, ShapeError
from tagmask.files import write_bytes
from tagmask.images import ImageSource, read_image
from tagmask.masks import index_png, overlay
from tagmask.purification import Dropped, Purification
from tagmask.regions import REGION_KINDS, Region, regions_of
from tagmask.regions.coco import coco_annotation, coco_category, needs_pycocotools

if TYPE_CHECKING:
    from supervision import Detections

__all__ = ["Segmentation", "Tags", "ignore_index_for", "named"]

_SHOWN = 6
"""Words in a short description of a result."""
_NOTEBOOK_SIDE = 1000


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

    def __repr__(self) -> str:
        found = ", ".join(f"{word} {self.scores[self.words.index(word)]:.2f}" for word in self.names[:_SHOWN])
        more = len(self.names) - _SHOWN
        return f"Tags({found or 'nothing'}{f' and {more} more' if more > 0 else ''}, of {named(self.words)})"

    @property
    def names(self) -> tuple[str, ...]:
        """The words that are present, highest score first."""
        order = sorted(self.chosen, key=lambda c: (-float(self.scores[c]), c))
        return tuple(self.words[c] for c in order)

    def to_hf(self) -> list[dict[str, object]]:
        """Return what transformers' pipeline "zero-shot-image-classification" returns.

        Returns:
            {"score", "label"} of every word, highest score first. Scores are this method's own, which need
            not add up to 1.

        Example:
            >>> Tags(("cat", "dog"), np.array([0.25, 0.5], np.float32), (1,), 0.3, "float32").to_hf()
            [{'score': 0.5, 'label': 'dog'}, {'score': 0.25, 'label': 'cat'}]
        """
        order = np.argsort(-self.scores, kind="stable").tolist()
        return [{"score": float(self.scores[c]), "label": self.words[c]} for c in order]


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
    purification: Purification | None = field(default=None, repr=False)
    """What purification decided in each window; None without `purify`."""

    def __getitem__(self, word: str) -> Bool[np.ndarray, "h w"]:
        """Return where a word is: True at its pixels, nowhere if it is absent.

        Raises:
            InputError: not one of `words`.

        Example:
            >>> labels = np.array([[0, 1]], np.uint8)
            >>> Segmentation(("background", "hat"), labels, None, True, "float32")["hat"]
            array([[False,  True]])
        """
        if word not in self.words:
            hint = did_you_mean(word, self.words)
            raise InputError(f"Unknown word {shown(word)}.{hint}", f"The words are {named(self.words, 20)}.")
        return np.asarray(self.labels == self.words.index(word))

    __iter__ = None
    """Not iterable: index it by a word."""

    def __repr__(self) -> str:
        height, width = self.labels.shape
        found = [f"{word} {share:.1%}" for word, share in self.shares().items()]
        absent = f"; absent: {named(self.absent)}" if self.absent else ""
        return f"Segmentation({width} x {height}: {named(found) or 'nothing'}{absent})"

    def _repr_png_(self) -> bytes:
        """Draw the masks for a notebook: tinted regions with names, at most 1000 pixels a side."""
        step = -(-max(self.labels.shape) // _NOTEBOOK_SIDE)
        labels = self.labels[::step, ::step]
        paper = np.full((*labels.shape, 3), 255, np.uint8)
        picture = io.BytesIO()
        drawn = overlay(paper, labels, self.words, skip=frozenset({0} if self.background else ()))
        drawn.save(picture, "PNG")
        return picture.getvalue()

    @property
    def dropped(self) -> dict[str, Dropped]:
        """Map each word that purification dropped from the image to the reason and a score."""
        if self.purification is None:
            return {}
        return self.purification.dropped(self.words[int(self.background) :])

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

    def regions(self, kind: str = "component", *, min_area: int = 1) -> Iterator[Region]:
        """Return the regions of the words: connected components, or one region for each word present.

        The background and pixels of no class have none.

        Args:
            kind: "component" or "class".
            min_area: least number of pixels; smaller regions are left out.

        Returns:
            An iterator over `tagmask.regions.Region`: its label (an index into `words`), area, box and mask.

        Raises:
            InputError: an unknown kind, or `min_area` below 1.
        """
        check_choice("regions", kind, REGION_KINDS)
        check_number("min_area", min_area, 1, whole=True)
        return regions_of(self.labels, kind, int(self.background), len(self.words), min_area)

    def boxes(
        self, kind: str = "component", *, min_area: int = 1
    ) -> dict[str, list[tuple[int, int, int, int]]]:
        """Map each word present to the boxes around its regions, (x0, y0, x1, y1) in pixels, half-open.

        Args:
            kind: as in `regions`.
            min_area: as in `regions`.

        Raises:
            InputError: as in `regions`.
        """
        boxes: dict[str, list[tuple[int, int, int, int]]] = {}
        for region in self.regions(kind, min_area=min_area):
            boxes.setdefault(self.words[region.label], []).append(region.box)
        return boxes

    def to_coco(
        self,
        image_id: int = 1,
        *,
        first_id: int = 1,
        regions: str = "component",
        min_area: int = 1,
        polygons: bool = False,
    ) -> list[dict[str, object]]:
        """Return the regions as COCO annotations, as in the files that `tagmask export --to coco` writes.

        Args:
            image_id: of each annotation.
            first_id: the first annotation's id; the next ones count up.
            regions: "component" or "class".
            min_area: least number of pixels; smaller regions are left out.
            polygons: outlines with holes cut open, instead of run lengths.

        Returns:
            Dictionaries ready for JSON. `category_id` is the word's index in `words`, counted from 1; the
            background is not counted. With `confidence=True` in the call, each has its class's "score".

        Raises:
            InputError: pycocotools is not installed, or as in `regions`.
        """
        needs_pycocotools()
        found = self.regions(regions, min_area=min_area)
        height, width = self.labels.shape
        return [
            coco_annotation(
                region,
                (height, width),
                annotation_id=annotation_id,
                image_id=image_id,
                category_id=coco_category(region.label, background=self.background),
                score=self._score(region.label),
                polygons=polygons,
            )
            for annotation_id, region in enumerate(found, first_id)
        ]

    def to_hf(self) -> list[dict[str, object]]:
        """Return what transformers' pipeline "image-segmentation" returns.

        Returns:
            {"score", "label", "mask"} of each word present, without the background: its class confidence, or
            None if the call had no `confidence=True`; the word; and a PIL image of mode "L", 255 inside.
        """
        height, width = self.labels.shape
        return [
            {
                "score": self._score(region.label),
                "label": self.words[region.label],
                "mask": PILImage.fromarray(region.full((height, width)).astype(np.uint8) * 255),
            }
            for region in self.regions("class")
        ]

    def to_supervision(self, regions: str = "class", *, min_area: int = 1) -> "Detections":
        """Return the regions as detections of the library supervision, without the background.

        Args:
            regions: "class" for one detection per word present, "component" for one per connected component.
            min_area: least number of pixels; smaller regions are left out.

        Returns:
            Detections with `xyxy` (half-open, in pixels), `mask`, `class_id` (an index into `words`),
            `data["class_name"]` and, if the call had `confidence=True`, `confidence`: that of the class.

        Raises:
            InputError: supervision is not installed, or as in `regions`.
        """
        check_installed("to_supervision", "supervision")
        from supervision import Detections

        found = list(self.regions(regions, min_area=min_area))
        height, width = self.labels.shape
        masks = np.zeros((len(found), height, width), bool)
        for mask, region in zip(masks, found, strict=True):
            mask[:] = region.full((height, width))
        scores = [self._score(region.label) for region in found]
        return Detections(
            xyxy=np.array([region.box for region in found], np.float32).reshape(-1, 4),
            mask=masks,
            confidence=None if self.class_confidence is None else np.array(scores, np.float32),
            class_id=np.array([region.label for region in found], int),
            data={"class_name": np.array([self.words[region.label] for region in found], str)},
        )

    def _score(self, label: int) -> float | None:
        return None if self.class_confidence is None else self.class_confidence.get(self.words[label])


def named(words: Sequence[str], most: int = _SHOWN) -> str:
    """List words, at most so many of them.

    Example:
        >>> named(["cat", "dog", "hat"], 2)
        'cat, dog and 1 more'
    """
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def ignore_index_for(classes: int) -> int:
    """Return the label of pixels of no class: 255, or 65535 if there are more than 255 classes.

    Example:
        >>> ignore_index_for(21), ignore_index_for(255), ignore_index_for(256)
        (255, 255, 65535)
    """
    return 255 if classes <= 255 else 65535
