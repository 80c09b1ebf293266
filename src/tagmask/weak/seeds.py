"""Where seeds come from: masks of tags or of words, activation maps, or PNGs that are there already.

Each source is a `MaskSource`, which `maskfolder.write_masks` turns into a folder.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tagmask.api import Segmenter
from tagmask.clip.load import Clip
from tagmask.errors import InputError, ShapeError
from tagmask.files import file_hash
from tagmask.images import read_image
from tagmask.resolve import mask_recipe
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.tag_files import read_tags, tags_of
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe
from tagmask.types import Size
from tagmask.weak.cams import Cams, Sweep, cam_labels, read_cams, sweep
from tagmask.weak.mask_folder import Mask, MaskSource, mask_file, read_mask

__all__ = [
    "SeedOptions",
    "from_cams",
    "from_masks",
    "from_segmenter",
    "seed_recipe",
    "seed_source",
    "sweep_thresholds",
]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeedOptions:
    """Where seeds come from: a frozen CLIP, activation maps, or masks that are there already.

    Raises:
        InputError: options that exclude each other, or lack another.
    """

    words: tuple[str, ...] | None
    """Class names without the background; None: the recipe's."""
    recipe: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    """Of the recipe, by name."""
    background: tuple[str, ...] | None = None
    """Background words; None: those of the recipe or of the weights."""
    tags_file: Path | None = None
    """What is in each image; None: the recipe finds out."""
    cams: Path | None = None
    """Folder of activation maps."""
    threshold: float | None = None
    """Of the maps: what the background scores."""
    truth: Path | None = None
    """Folder of true masks of some images, which choose the threshold where none is given."""
    masks: Path | None = None
    """Folder of index PNGs, to be checked and copied."""

    def __post_init__(self) -> None:
        if self.cams is not None and self.masks is not None:
            raise InputError("--cams and --masks exclude each other; give one of them")
        if self.cams is None and (self.threshold is not None or self.truth is not None):
            raise InputError("--threshold and --truth are for activation maps; give --cams DIR too")
        if self.uses_clip:
            return
        if self.recipe is not None or self.words is None:
            raise InputError(
                "masks and maps do not say what they show; name the classes in order, -w cat -w dog"
            )
        if self.cams is not None and self.threshold is None and self.truth is None:
            raise InputError(
                "maps are cut at a threshold; give --threshold T, or --truth DIR to choose it by"
            )

    @property
    def uses_clip(self) -> bool:
        """Seeds are made by a CLIP."""
        return self.cams is None and self.masks is None


def seed_recipe(options: SeedOptions, usual: tuple[str, ...] = ()) -> MaskRecipe | TagFirstRecipe:
    """The recipe by which a CLIP makes seeds.

    Args:
        options: of seeds that a CLIP makes.
        usual: the weights' own background words, for own words that come without any.

    Raises:
        InputError: no words and no recipe, or anything in them that cannot be used.
    """
    usual = usual if options.recipe is None else ()
    return mask_recipe(options.recipe, options.words, options.background, None, options.settings, usual)


def seed_source(images: Sequence[FoundImage], options: SeedOptions, clip: Callable[[], Clip]) -> MaskSource:
    """What makes the seeds that options ask for; all that can be refused is refused here, not at an image.

    Args:
        images: all of them; where a threshold is to be chosen, it is by those whose truth is known.
        options: where seeds come from.
        clip: loads the CLIP; called last, and only where it is needed.

    Raises:
        TagmaskError: words, recipe, tags file, maps or weights that cannot be used.
    """
    words = [line.split(", ")[0] for line in options.words or ()]
    if options.masks is not None:
        return from_masks(options.masks, ["background", *words])
    if options.cams is not None:
        return from_cams(options.cams, words, _threshold(images, options, options.cams, len(words)))
    recipe = seed_recipe(options)
    tags = None if options.tags_file is None else read_tags(options.tags_file, len(recipe.words))
    loaded = clip()
    return from_segmenter(Segmenter(loaded, recipe=seed_recipe(options, loaded.background)), tags)


def _threshold(images: Sequence[FoundImage], options: SeedOptions, cams: Path, classes: int) -> float:
    if options.threshold is not None or options.truth is None:
        return options.threshold or 0.0
    found = sweep_thresholds(images, cams, options.truth, classes)
    _LOG.info(
        "threshold %.2f gives the best mIoU of %d tried, %.1f%%; "
        "stopping at the first decrease would take %.2f",
        found.best,
        len(found.miou),
        100 * max(found.miou),
        found.first_peak,
    )
    return found.best


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
        given = None if tags is None else tags_of(image, tags)
        labels: Mask = segmenter(read_image(image.path), tags=given).labels.astype(np.uint8)
        return labels

    settings = {
        "source": "segmenter",
        "recipe": _plain(segmenter.recipe.flat()),
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
        threshold: what the background scores, 0..1; see `sweep_thresholds`.
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


def sweep_thresholds(images: Sequence[FoundImage], cams: Path, truth: Path, classes: int) -> Sweep:
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


def _plain(recipe: Mapping[str, object]) -> dict[str, object]:
    """A recipe for JSON, without what only shows."""
    return {name: value for name, value in recipe.items() if name != "name"}
