"""Sources of seeds: a frozen CLIP, an MCTformer, class activation maps, or existing PNG masks.

Each is a `MaskSource`; `mask_folder.write_masks` writes its masks to a run folder.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tagmask.api import Segmenter
from tagmask.clip.load import Clip
from tagmask.errors import InputError, ShapeError
from tagmask.files import file_hash
from tagmask.images import read_image
from tagmask.papers.psa import BACKGROUND_SCORE
from tagmask.resolve import mask_recipe
from tagmask.results import Segmentation
from tagmask.runs.describe import segmenter_identity
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.tag_files import check_tags, read_tags, tags_of
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe
from tagmask.types import Size
from tagmask.weak.affinity_net import load_affinity, walked_labels
from tagmask.weak.cams import Cams, Sweep, cam_labels, read_cams, sweep
from tagmask.weak.config import fingerprint
from tagmask.weak.labels import IGNORE_INDEX
from tagmask.weak.loop import MODEL_FILE
from tagmask.weak.map_files import MapFiles
from tagmask.weak.mask_folder import Mask, MaskSource, mask_files, named_files, read_mask
from tagmask.weak.mctformer_file import load_mctformer
from tagmask.weak.training_folder import read_metadata

__all__ = [
    "SeedOptions",
    "cam_paths",
    "from_cams",
    "from_masks",
    "from_segmenter",
    "mctformer_source",
    "seed_recipe",
    "seed_source",
    "sweep_thresholds",
]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeedOptions:
    """Options of the seed source: a frozen CLIP, an MCTformer, activation maps, or existing masks.

    Raises:
        InputError: options that exclude each other, or that need another option.
    """

    words: tuple[str, ...] | None
    """Class names without the background; None: the recipe's."""
    recipe: str | None = None
    """Name of the recipe for a CLIP; None: chosen by `settings`."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Overrides of the recipe's settings, by name."""
    background: tuple[str, ...] | None = None
    """Background words; None: those of the recipe or of the weights."""
    tags_file: Path | None = None
    """File of ground-truth tags of each image; None: the recipe predicts the tags."""
    cams: Path | None = None
    """Folder of activation maps."""
    threshold: float | None = None
    """Background score for activation maps."""
    truth: Path | None = None
    """Folder of ground-truth masks of some images, used to choose the threshold if none is given."""
    masks: Path | None = None
    """Folder of existing index PNGs, to check and copy."""
    mctformer: Path | None = None
    """Run folder of a trained MCTformer, which computes activation maps of the ground-truth tags."""
    affinity: Path | None = None
    """Run folder of a trained affinity network, along whose affinities the MCTformer's maps are spread."""
    device: str = "auto"
    """For these networks, as `tagmask.load` takes it."""

    def __post_init__(self) -> None:
        if self.cams is not None and self.masks is not None:
            raise InputError("--cams and --masks exclude each other. Give only one of them.")
        others = (self.cams, self.masks, self.recipe)
        if self.mctformer is not None and any(each is not None for each in others):
            raise InputError("MCTformer's seeds need no --cams, --masks or --recipe. Leave them out.")
        if self.mctformer is not None:
            if self.tags_file is None:
                raise InputError("MCTformer maps the tags that an image has. Give them: --tags-file FILE.")
            if self.affinity is not None and self.truth is not None:
                raise InputError("With --affinity the background's score is not chosen. Leave out --truth.")
            return
        if self.affinity is not None:
            raise InputError("--affinity refines the maps of an MCTformer. Give --method mctformer too.")
        if self.cams is None and (self.threshold is not None or self.truth is not None):
            raise InputError("--threshold and --truth need activation maps. Give --cams DIR too.")
        if self.uses_clip:
            return
        if self.recipe is not None or self.words is None:
            raise InputError(
                "Masks and activation maps have no class names. Name the classes in order: -w cat -w dog."
            )
        if self.cams is not None and self.threshold is None and self.truth is None:
            raise InputError(
                "Activation maps need a threshold. Give --threshold T, or --truth DIR to choose it."
            )

    @property
    def uses_clip(self) -> bool:
        """Whether a CLIP computes the seeds."""
        return self.cams is None and self.masks is None and self.mctformer is None


def seed_recipe(
    options: SeedOptions, default_background: tuple[str, ...] = ()
) -> MaskRecipe | TagFirstRecipe:
    """Resolve the recipe of seeds from a CLIP.

    Args:
        options: with `uses_clip`.
        default_background: the weights' background words, used with words that come without a background.

    Raises:
        InputError: neither words nor a recipe, or invalid ones.
    """
    default_background = default_background if options.recipe is None else ()
    return mask_recipe(
        options.recipe, options.words, options.background, None, options.settings, default_background
    )


def seed_source(
    images: Sequence[FoundImage], options: SeedOptions, clip: Callable[[], Clip], out: Path
) -> MaskSource:
    """Build the seed source of the options; invalid options are refused here, before the first image.

    Args:
        images: all images; those with a ground-truth mask are used to choose a threshold.
        options: of the source.
        clip: loads the CLIP; called last, and only if needed.
        out: output folder of the seeds, where an MCTformer keeps its maps.

    Raises:
        TagmaskError: words, recipe, tags file, maps or weights that cannot be used.
    """
    words = [line.split(", ")[0] for line in options.words or ()]
    if options.masks is not None:
        return from_masks(images, options.masks, ["background", *words])
    if options.mctformer is not None:
        return mctformer_source(images, options, out)
    if options.cams is not None:
        threshold = _threshold(images, options, options.cams, len(words))
        return from_cams(images, options.cams, words, threshold)
    recipe = seed_recipe(options)
    tags = None if options.tags_file is None else read_tags(options.tags_file, len(recipe.words))
    if tags is not None:
        check_tags(images, tags)
    loaded = clip()
    return from_segmenter(Segmenter(loaded, recipe=seed_recipe(options, loaded.background)), tags)


def _threshold(images: Sequence[FoundImage], options: SeedOptions, cams: Path, classes: int) -> float:
    if options.threshold is not None or options.truth is None:
        return options.threshold or 0.0
    return _best_of(sweep_thresholds(images, cams, options.truth, classes))


def _best_of(result: Sweep) -> float:
    """The best threshold, with a log message that compares it with MCTformer's rule."""
    _LOG.info(
        "Threshold %.2f has the best mIoU of %d thresholds, %.1f%%. "
        "MCTformer's rule (stop at the first that is no better) would choose %.2f.",
        result.best,
        len(result.miou),
        100 * max(result.miou),
        result.first_peak,
    )
    return result.best


def mctformer_source(images: Sequence[FoundImage], options: SeedOptions, out: Path) -> MaskSource:
    """Seeds from a trained MCTformer: its maps of the ground-truth tags, at a threshold.

    The maps are kept as `out/maps/NAME.npz`, which `from_cams` reads. With an affinity network, background
    and maps are first spread along its affinities. Without a threshold and ground-truth masks, the
    background's score is that which the paper uses with affinities, 0.39.

    Args:
        images: all images; those with a ground-truth mask are used to choose a threshold.
        options: with `mctformer` and `tags_file`.
        out: output folder of the seeds.

    Raises:
        InputError: an unfinished or other run, tags that cannot be used, or `out` has maps of another run.
        WeightsError: the model cannot be used.
    """
    run, tags_file = cast(Path, options.mctformer), cast(Path, options.tags_file)
    read_metadata(run, "mctformer")
    trained = load_mctformer(run / MODEL_FILE, device=options.device)
    words = trained.words
    _check_count(words)
    tags = read_tags(tags_file, len(words))
    check_tags(images, tags)
    identity = {"model": file_hash(run / MODEL_FILE), "tags": fingerprint(tags)}
    maps = MapFiles(trained, images, tags, out / "maps", identity)
    threshold = options.threshold
    if threshold is None and options.truth is not None:
        truth = zip(images, mask_files(options.truth, images), strict=True)
        masks = ((image, read_mask(file, len(words) + 1)) for image, file in truth if file and file.exists())
        threshold = _best_of(sweep(((maps.of(image), mask) for image, mask in masks), len(words)))
    threshold = BACKGROUND_SCORE if threshold is None else threshold

    settings = {"source": "mctformer", **identity, **maps.settings, "threshold": threshold}
    if options.affinity is None:
        affinity = None
    else:
        read_metadata(options.affinity, "affinity")
        affinity = load_affinity(options.affinity / MODEL_FILE, device=options.device)
        settings["affinity"] = file_hash(options.affinity / MODEL_FILE)

    def make(image: FoundImage) -> Mask:
        if affinity is None:
            return cam_labels(maps.of(image), threshold, _size(image))
        return walked_labels(affinity, read_image(image.path), maps.of(image), threshold)

    return MaskSource("seeds", ("background", *words), settings, make)


def from_segmenter(segmenter: Segmenter, tags: Mapping[str, Sequence[int]] | None = None) -> MaskSource:
    """Seeds from a frozen CLIP: of predicted or given tags (CLS-SEG), or of all words (SCLIP).

    Args:
        segmenter: with a background, so that label 0 stands for pixels of none of the words.
        tags: given tags: classes of each image, by its name (see `tags_of`), counted from 0 without the
            background; None: the segmenter predicts the tags.

    Raises:
        InputError: a segmenter without a background, or with more than 254 classes.
    """
    if not segmenter.background or len(segmenter.words) > 254:
        raise InputError(
            f"Seeds need a background and at most 254 classes, but {segmenter.recipe.name} has "
            f"{len(segmenter.words)} classes and {'a' if segmenter.background else 'no'} background. "
            "Give background words, or fewer classes."
        )

    def make(image: FoundImage) -> Segmentation:
        given = None if tags is None else tags_of(image, tags)
        return segmenter(read_image(image.path), tags=given, confidence=True)

    identity = segmenter_identity(segmenter, "seeds", tags=tags)
    settings = {"source": "segmenter", **identity.fields, "words": segmenter.words}
    return MaskSource("seeds", segmenter.words, settings, make, identity.metadata)


def from_cams(
    images: Sequence[FoundImage], folder: Path, words: Sequence[str], threshold: float
) -> MaskSource:
    """Seeds from activation maps, one file per image, at a threshold.

    Args:
        images: all images.
        folder: maps with the images' names; see `cam_paths`.
        words: class names without the background, which becomes label 0.
        threshold: background score, 0..1; see `sweep_thresholds`.

    Raises:
        InputError: several images could be meant by one file, or more than 254 classes.
    """
    _check_count(words)
    files = dict(zip(images, cam_paths(folder, images), strict=True))

    def make(image: FoundImage) -> Mask:
        size = _size(image)
        return cam_labels(read_cams(files[image], len(words), size), threshold, size)

    settings = {"source": "cams", "folder": str(folder.resolve()), "threshold": threshold}
    return MaskSource("seeds", ("background", *words), settings, make)


def from_masks(images: Sequence[FoundImage], folder: Path, words: Sequence[str]) -> MaskSource:
    """Seeds from existing index PNGs, checked and copied.

    Args:
        images: all images.
        folder: masks with the images' names; see `mask_files`.
        words: class names, background first.

    Raises:
        InputError: several images could be meant by one file, or more than 254 classes.
    """
    _check_count(words[1:])
    files = dict(zip(images, mask_files(folder, images), strict=True))

    def make(image: FoundImage) -> Mask:
        file = files[image]
        if file is None:
            raise InputError(f"The run in {folder} could not compute this mask. Run its command again.")
        mask = read_mask(file, len(words))
        size = _size(image)
        if mask.shape != size:
            raise ShapeError(
                f"The mask of {image.path} is {mask.shape}, but the image is {size} (h, w). "
                "Give masks at the images' size."
            )
        return mask

    settings = {"source": "masks", "folder": str(folder.resolve())}
    return MaskSource("seeds", tuple(words), settings, make)


def sweep_thresholds(images: Sequence[FoundImage], cams: Path, truth: Path, classes: int) -> Sweep:
    """Evaluate all thresholds on the images with a ground-truth mask.

    Args:
        images: images; those without a ground-truth mask are skipped.
        cams: folder of activation maps.
        truth: folder of index PNGs.
        classes: number of classes, without the background.

    Raises:
        InputError: no image has a ground-truth mask, a file of maps is invalid, or several images could be
            meant by one file.
        ShapeError: maps and ground truth differ in size.
    """

    def pairs() -> Iterator[tuple[Cams, Mask]]:
        for maps, file in zip(cam_paths(cams, images), mask_files(truth, images), strict=True):
            if file is not None and file.exists():
                mask = read_mask(file, classes + 1)
                yield read_cams(maps, classes, (mask.shape[0], mask.shape[1])), mask

    return sweep(pairs(), classes)


def cam_paths(folder: Path, images: Sequence[FoundImage]) -> list[Path]:
    """Find each image's maps by name: NAME.npz, else NAME.npy.

    Raises:
        InputError: several images could be meant by one file; see `named_files`.
    """
    new, old = (named_files(folder, images, ending) for ending in (".npz", ".npy"))
    return [
        npy if os.path.lexists(npy) and not os.path.lexists(npz) else npz
        for npz, npy in zip(new, old, strict=True)
    ]


def _check_count(words: Sequence[str]) -> None:
    """Refuse more classes than 8-bit masks have values for, besides the background and the ignore index."""
    if len(words) > IGNORE_INDEX - 1:
        raise InputError(
            f"Seeds have at most {IGNORE_INDEX - 1} classes, got {len(words)}. Give fewer words."
        )


def _size(image: FoundImage) -> Size:
    pixels = read_image(image.path)
    return pixels.shape[0], pixels.shape[1]
