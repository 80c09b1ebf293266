"""`tagmask mask`: mask images into a run folder, and print the results."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from tagmask.cli.console import bold, message
from tagmask.cli.maskers import Masker
from tagmask.cli.options import Affinity, Purify, Refine
from tagmask.cli.runs import run_images, stops_reported
from tagmask.errors import InputError
from tagmask.exporters import EXPORTERS, ExportOptions
from tagmask.files import ensure_folder
from tagmask.images import read_image
from tagmask.masks import index_png
from tagmask.printable import printable, shortened
from tagmask.proposals.source import ProposalSource
from tagmask.resolve import recipe as recipe_called
from tagmask.results import Segmentation
from tagmask.runs.folder import RunFolder
from tagmask.runs.ownership import leave_out_outputs
from tagmask.runs.planning import ImageTask
from tagmask.runs.producer import Produced
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runs.shards import Shard
from tagmask.runs.stages import Stages
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.tag_files import check_tags, tags_of
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe
from tagmask.settings.refinement import expand_names
from tagmask.types import Image

__all__ = ["mask_formats", "mask_images", "mask_settings", "require_tags_file"]

_OVERLAY_QUALITY = 92
_JPEG_LIMIT = 65_500
"""Largest width and height of a JPEG."""
_DROPPED = 3
"""Dropped words that are printed of an image."""


def mask_images(
    images: list[FoundImage],
    make_masker: Callable[[], Masker],
    *,
    out: Path,
    overlays: bool,
    formats: frozenset[str],
    tags: Mapping[str, tuple[int, ...]] | None,
    regions: ProposalSource | None = None,
    workers: int = 1,
    again: bool = False,
    shard: Shard | None = None,
    keep_features: bool = False,
) -> int:
    """Mask the images that a run has not masked yet, and return how many of its images have failed.

    Args:
        images: the full listing.
        make_masker: loads the weights or the student; called after the cheap checks.
        out: the run folder.
        overlays: also draw the masks over the images.
        formats: from `mask_formats`; all but png are written at the end, from the whole run.
        tags: the classes to mask, as `read_tags` returns them.
        regions: where the masker has regions of images from, for the note on images without any.
        workers: images at once.
        again: mask images again that are done.
        shard: mask only this part of the images.
        keep_features: also write each image's frozen features, for `tagmask review`.

    Raises:
        InputError: all images are outputs of an earlier run, the folder holds another run, or the method
            keeps no features.
        OutputError: the folder cannot be written.
    """
    images = leave_out_outputs(images, out)
    if tags is not None:
        check_tags(images, tags)
    if regions is not None:
        _report_missing(regions, images)
    exported = sorted(formats - {"png"})
    for name in exported:
        EXPORTERS[name].check(ExportOptions())
    ensure_folder(out)
    masker = make_masker()
    if keep_features and masker.freeze is None:
        raise InputError(
            "This method has no features that other words could be compared with. Leave out --keep-features."
        )

    def read(task: ImageTask) -> Image:
        return read_image(task.found.path)

    def compute(task: ImageTask, pixels: Image) -> Segmentation:
        given = None if tags is None else tags_of(task.found, tags)
        if not keep_features or masker.freeze is None:
            return masker.mask(task.found, pixels, given)
        frozen = masker.freeze(pixels)
        run.write_features(task.name, frozen.encode())
        return frozen(tags=given, confidence=True)

    def write(task: ImageTask, pixels: Image, segmentation: Segmentation) -> ImageResult:
        if overlays and max(segmentation.labels.shape) <= _JPEG_LIMIT:
            run.write_overlay(task.name, _overlay(segmentation, pixels))
        run.write_mask(task.name, index_png(segmentation.labels))
        return _result(segmentation)

    def show(produced: Produced) -> str:
        assert produced.result is not None  # only images that are done are shown
        path = bold(str(produced.task.found.path))
        mask_file = printable(str(_mask_path(out, produced.task)))
        return f"{path}: {_shares(produced.result)} -> {mask_file}{_dropped(produced.result)}"

    with (
        stops_reported(out),
        RunFolder.open(out, masker.identity, masker.classes) as run,
    ):
        # Before the work: a file in the way must not be found after hours.
        targets = {name: EXPORTERS[name].target_in(out, None) for name in exported}
        plan = run.plan(images, again=again, shard=shard)
        totals = run_images(
            run, plan, Stages(read, compute, write), workers=workers, show=show, hint=masker.hint
        )
        for name, target in targets.items():
            with Run(out) as written:
                EXPORTERS[name].write(written, target)
            message(f"Written: {target}.")
    return totals.failed


def _report_missing(regions: ProposalSource, images: list[FoundImage]) -> None:
    """Say which images will fail: proposals that are added later make another run."""
    missing = regions.missing([image.name for image in images])
    if missing:
        message(
            f"note: {len(missing)} of {len(images)} images have no region proposals and will fail, such as "
            f"{shortened(missing[0])}. A run cannot go on with other proposals: complete them first."
        )


def _overlay(segmentation: Segmentation, pixels: Image) -> bytes:
    buffer = io.BytesIO()
    segmentation.overlay(pixels).save(buffer, "JPEG", quality=_OVERLAY_QUALITY)
    return buffer.getvalue()


def _result(segmentation: Segmentation) -> ImageResult:
    height, width = segmentation.labels.shape
    first = int(segmentation.background)
    shares = segmentation.pixels()
    if segmentation.tags is None:
        tags = [word for word in segmentation.words[first:] if word in shares]
    else:
        tags = [segmentation.words[first + tag] for tag in segmentation.tags]
    dropped = {
        word: {"reason": why.reason, "score": None if why.score is None else round(why.score, 6)}
        for word, why in segmentation.dropped.items()
    }
    return ImageResult(
        width=width,
        height=height,
        tags=tags,
        shares=shares,
        class_confidence=segmentation.class_confidence,
        confidence=segmentation.confidence,
        absent=segmentation.absent,
        record={"dropped": dropped} if dropped else None,
    )


def _shares(result: ImageResult) -> str:
    pixels = (result.width or 0) * (result.height or 0)
    largest_first = sorted((result.shares or {}).items(), key=lambda item: -item[1])
    return ", ".join(f"{printable(word)} {count / pixels:.1%}" for word, count in largest_first) or "nothing"


def _dropped(result: ImageResult) -> str:
    """The words that were dropped, nearest to being kept first."""
    dropped = cast(dict[str, dict[str, Any]], (result.record or {}).get("dropped", {}))
    order = sorted(dropped, key=lambda word: -(dropped[word]["score"] or 0.0))
    named = []
    for word in order[:_DROPPED]:
        score = dropped[word]["score"]
        named.append(
            f"{printable(word)} ({dropped[word]['reason']}{'' if score is None else f' {score:.2f}'})"
        )
    more = f" and {len(order) - _DROPPED} more" if len(order) > _DROPPED else ""
    return f"; dropped: {', '.join(named)}{more}" if named else ""


def _mask_path(out: Path, task: ImageTask) -> Path:
    return out / "masks" / f"{task.name}.png"


def mask_settings(
    method: str | None,
    threshold: float | None,
    only_tags: bool,
    refine: Refine | None,
    recipe: str | None = None,
    templates: tuple[str, ...] | None = None,
    purify: Purify | None = None,
    affinity: Affinity | None = None,
) -> dict[str, object]:
    """Return the recipe fields that the options set.

    Raises:
        InputError: options exclude each other.
    """
    settings: dict[str, object] = {}
    if method is not None:
        settings["method"] = method
    if only_tags and method == "cls-seg":
        raise InputError("--only-tags has no effect with cls-seg, which always masks tags. Leave it out.")
    if only_tags and method is None and recipe and isinstance(recipe_called(recipe), TagFirstRecipe):
        raise InputError(f"--only-tags has no effect with {recipe}, which always masks tags. Leave it out.")
    if only_tags:
        settings["among"] = "tags"
    if threshold is not None:
        settings["threshold"] = threshold
    if refine is not None:
        settings["refine"] = refine.value
    if templates is not None:
        settings["templates"] = templates
    if purify is not None:
        settings["purify"] = purify.value
    if affinity is not None:
        settings["affinity"] = affinity.value
    return expand_names(settings)


def require_tags_file(recipe: MaskRecipe | TagFirstRecipe, tags_file: Path | None) -> None:
    """Check that a tags file is given if the recipe needs ground-truth tags.

    Raises:
        InputError: the recipe needs tags and there is no file.
    """
    if recipe.needs_tags and tags_file is None:
        raise InputError(
            f"The recipe {recipe.name} needs the tags of each image. Give --tags-file FILE, "
            "or use a cls-seg/ recipe, which finds them."
        )


def mask_formats(text: str) -> frozenset[str]:
    """Parse --format: the file formats of the masks.

    Raises:
        InputError: a format is unknown, or png is missing.
    """
    formats = frozenset(part.strip() for part in text.split(","))
    files = {name for name, exporter in EXPORTERS.items() if not exporter.is_folder}
    if not formats <= {"png", *files} or "png" not in formats:
        raise InputError(
            f"Invalid --format {text!r}. Give png, or png and {', '.join(sorted(files))}, as in png,coco. "
            "For other formats run `tagmask export` afterwards."
        )
    return formats
