"""Sources of seeds: a frozen CLIP, an MCTformer, class activation maps, or existing PNG masks.

Each is a `MaskSource`; `mask_folder.write_masks` writes its masks to a run folder.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from tagmask.api import Segmenter
from tagmask.clip.load import Clip
from tagmask.errors import InputError, ShapeError
from tagmask.files import file_hash
from tagmask.images import read_image
from tagmask.papers.clip_es import ClipEsSettings
from tagmask.papers.psa import BACKGROUND_SCORE
from tagmask.pipelines.background_choice import with_chosen_background
from tagmask.pipelines.head import read_head
from tagmask.resolve import mask_recipe
from tagmask.results import Segmentation
from tagmask.runs.describe import segmenter_identity
from tagmask.runtime.folders import FoundImage, output_names
from tagmask.runtime.tag_files import check_tags, read_tags, tags_of
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe
from tagmask.types import Size
from tagmask.weak.affinity_net import load_affinity, walked_labels
from tagmask.weak.cams import Cams, Sweep, cam_labels, read_cams, refined_labels, sweep
from tagmask.weak.config import fingerprint
from tagmask.weak.labels import IGNORE_INDEX
from tagmask.weak.loop import MODEL_FILE
from tagmask.weak.map_files import MapFiles
from tagmask.weak.mask_folder import Mask, MaskSource, mask_files, named_files, read_mask
from tagmask.weak.mctformer_file import load_mctformer
from tagmask.weak.seed_options import SeedOptions
from tagmask.weak.stacked_cams import write_stacked_cams
from tagmask.weak.training_folder import read_metadata

__all__ = [
    "cam_paths",
    "from_cams",
    "from_masks",
    "from_refined_cams",
    "from_segmenter",
    "mctformer_source",
    "seed_recipe",
    "seed_source",
    "sweep_thresholds",
]

_LOG = logging.getLogger(__name__)


def seed_recipe(
    options: SeedOptions, default_background: tuple[str, ...] = ()
) -> MaskRecipe | TagFirstRecipe:
    """Resolve the recipe of seeds from a CLIP.

    Args:
        options: with `uses_clip`.
        default_background: the weights' background words, used with words that come without a background.

    Raises:
        InputError: neither words nor a recipe, or invalid ones; a least confidence without a CRF; or a method
            without activation maps where they are to be saved.
    """
    default_background = default_background if options.recipe is None else ()
    recipe = mask_recipe(
        options.recipe, options.words, options.background, None, options.settings, default_background
    )
    needs_tag_masks = {
        "--min-confidence": options.min_confidence is not None,
        "--save-cams": options.save_cams,
    }
    for option, given in needs_tag_masks.items():
        if given and not isinstance(recipe, TagFirstRecipe):
            raise InputError(f"{option} is for methods that mask tags. Give --method cls-seg or clip-es.")
    if options.min_confidence is None:
        return recipe
    if recipe.crf is None:
        raise InputError("--min-confidence compares with the probabilities of a CRF. Give --refine crf too.")
    return mask_recipe(recipe, overrides={"confidence": options.min_confidence})


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
        crf = options.settings.get("crf")
        if crf is not None:
            return from_refined_cams(images, options.cams, words, str(crf), options.min_confidence)
        threshold = _threshold(images, options, options.cams, len(words))
        return from_cams(images, options.cams, words, threshold)
    recipe = seed_recipe(options)
    tags = None if options.tags_file is None else read_tags(options.tags_file, len(recipe.words))
    if tags is not None:
        check_tags(images, tags)
    head = None if options.head is None else read_head(options.head)
    loaded = clip()
    recipe = with_chosen_background(loaded, seed_recipe(options, loaded.background), options.background)
    # With words, so that it warns of them.
    segmenter = Segmenter(loaded, options.words, recipe=recipe, head=head)
    names = output_names(images) if options.save_cams else []
    cams = {image: out / "cams" / f"{name}.npy" for image, name in zip(images, names, strict=False)}
    return from_segmenter(segmenter, tags, cams or None)


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


def from_segmenter(
    segmenter: Segmenter,
    tags: Mapping[str, Sequence[int]] | None = None,
    cams: Mapping[FoundImage, Path] | None = None,
) -> MaskSource:
    """Seeds from a frozen CLIP: of predicted or given tags (CLS-SEG), or of all words (SCLIP).

    Args:
        segmenter: with a background, so that label 0 stands for pixels of none of the words.
        tags: given tags: classes of each image, by its name (see `tags_of`), counted from 0 without the
            background; None: the segmenter predicts the tags.
        cams: where to write each image's activation maps, as CLIP-ES's program does; None: nowhere.

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
        made = segmenter(read_image(image.path), tags=given, confidence=True, cams=cams is not None)
        if cams is not None and made.tags is not None and made.cams is not None:
            write_stacked_cams(cams[image], made.tags, made.cams)
        return made

    identity = segmenter_identity(segmenter, "seeds", tags=tags)
    settings: dict[str, object] = {"source": "segmenter", **identity.fields, "words": segmenter.words}
    if cams is not None:  # a run without them cannot be resumed with them: its images are done
        settings["cams"] = True
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


def from_refined_cams(
    images: Sequence[FoundImage], folder: Path, words: Sequence[str], crf: str, min_confidence: float | None
) -> MaskSource:
    """Seeds from activation maps, refined by a dense CRF as CLIP-ES does; see `refined_labels`.

    Args:
        images: all images.
        folder: maps with the images' names; see `cam_paths`.
        words: class names without the background, which becomes label 0.
        crf: name of the CRF's settings.
        min_confidence: pixels with a lower probability become the ignore index; None: none do.

    Raises:
        InputError: see `from_cams`; or a confidence that is not within 0..1.
    """
    _check_count(words)
    files = dict(zip(images, cam_paths(folder, images), strict=True))
    variant = ClipEsSettings(confidence=min_confidence)

    def make(image: FoundImage) -> Mask:
        pixels = read_image(image.path)
        cams = read_cams(files[image], len(words), (pixels.shape[0], pixels.shape[1]))
        return refined_labels(pixels, cams, crf, variant)

    settings = {"source": "cams", "folder": str(folder.resolve()), "crf": crf, "confidence": min_confidence}
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
