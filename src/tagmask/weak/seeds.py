"""Where seeds come from: masks of tags or of words, activation maps, or PNGs that are there already.

Each source is a `MaskSource`, which `maskfolder.write_masks` turns into a folder.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tagmask.api import Segmenter
from tagmask.errors import InputError, ShapeError
from tagmask.files import file_hash
from tagmask.images import read_image
from tagmask.runtime.folders import FoundImage
from tagmask.types import Size
from tagmask.weak.cams import Cams, Sweep, cam_labels, read_cams, sweep
from tagmask.weak.maskfolder import Mask, MaskSource, mask_file, read_mask

__all__ = ["from_cams", "from_masks", "from_segmenter", "swept"]


def from_segmenter(segmenter: Segmenter, tags: Mapping[str, Sequence[int]] | None = None) -> MaskSource:
    """Seeds by a frozen CLIP: of found tags or given ones (CLS-SEG), or of all words (SCLIP).

    Args:
        segmenter: with a background, so that label 0 is what is none of the words.
        tags: classes that are in each picture, by its name without folder and ending, counted from 0 without
            the background; none: the segmenter looks for itself.

    Raises:
        InputError: a segmenter without a background, or with more classes than a PNG of 8 bits can tell.
    """
    if not segmenter.background or len(segmenter.words) > 254:
        raise InputError(
            f"seeds need a background and at most 254 classes; {segmenter.recipe.name} has "
            f"{len(segmenter.words)} classes and {'a' if segmenter.background else 'no'} background"
        )

    def make(image: FoundImage) -> Mask:
        labels: Mask = segmenter(read_image(image.path), tags=_tags_of(image, tags)).labels.astype(np.uint8)
        return labels

    settings = {
        "source": "segmenter",
        "recipe": _plain(asdict(segmenter.recipe)),
        "weights": file_hash(*segmenter.clip.files),
        "precision": segmenter.clip.precision,
        "tags": None if tags is None else {name: list(own) for name, own in tags.items()},
    }
    return MaskSource("seeds", segmenter.words, settings, make)


def from_cams(folder: Path, words: Sequence[str], threshold: float) -> MaskSource:
    """Seeds by activation maps, one `.npy` a picture, cut at a threshold.

    Args:
        folder: the maps, named as the pictures are.
        words: class names without the background, which becomes label 0.
        threshold: what the background scores, 0..1; see `swept`.
    """

    def make(image: FoundImage) -> Mask:
        size = _size(image)
        return _named(image, lambda: cam_labels(_cams_of(folder, image, len(words)), threshold, size))

    settings = {"source": "cams", "folder": str(folder.resolve()), "threshold": threshold}
    return MaskSource("seeds", ("background", *words), settings, make)


def from_masks(folder: Path, words: Sequence[str]) -> MaskSource:
    """Seeds that are there already as index PNGs, checked and copied.

    Args:
        folder: the masks, named as the pictures are.
        words: class names, the background's first.
    """

    def make(image: FoundImage) -> Mask:
        mask = read_mask(mask_file(folder, image.path.stem), len(words))
        size = _size(image)
        if mask.shape != size:
            raise ShapeError(
                f"the mask of {image.path} is {mask.shape} and the picture {size} (h, w); "
                "give masks of the pictures' own size"
            )
        return mask

    settings = {"source": "masks", "folder": str(folder.resolve())}
    return MaskSource("seeds", tuple(words), settings, make)


def swept(images: Sequence[FoundImage], cams: Path, truth: Path, classes: int) -> Sweep:
    """Try all thresholds on the pictures whose truth is known.

    Args:
        images: the pictures; those without a true mask are passed over.
        cams: folder of maps.
        truth: folder of index PNGs.
        classes: how many there are, without the background.

    Raises:
        InputError: no picture has a true mask, or a file of maps is bad.
        ShapeError: maps and truth of different sizes.
    """

    def pairs() -> Iterator[tuple[Cams, Mask]]:
        for image in images:
            file = mask_file(truth, image.path.stem)
            if file.exists():
                yield _cams_of(cams, image, classes), read_mask(file, classes + 1)

    return sweep(pairs(), classes)


def _cams_of(folder: Path, image: FoundImage, classes: int) -> Cams:
    return read_cams(folder / f"{image.path.stem}.npy", classes)


def _named(image: FoundImage, make: Callable[[], Mask]) -> Mask:
    try:
        return make()
    except ShapeError as error:
        raise ShapeError(f"{image.path}: {error}") from error


def _size(image: FoundImage) -> Size:
    pixels = read_image(image.path)
    return pixels.shape[0], pixels.shape[1]


def _tags_of(image: FoundImage, tags: Mapping[str, Sequence[int]] | None) -> Sequence[int] | None:
    if tags is None:
        return None
    if image.path.stem not in tags:
        raise InputError(f"no tags are given for {image.path.stem!r}; add a line for it")
    return tags[image.path.stem]


def _plain(recipe: Mapping[str, object]) -> dict[str, object]:
    """A recipe for JSON, without what only shows."""
    return {name: value for name, value in recipe.items() if name != "name"}
