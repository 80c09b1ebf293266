"""`tagmask improve`: learn from corrected masks, and mask a run's images again."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from tagmask.api import Segmenter
from tagmask.cli.console import message, report_failure, with_progress
from tagmask.cli.mask import mask_images
from tagmask.cli.maskers import Masker, segmenter_masker
from tagmask.clip.load import Clip
from tagmask.errors import ImageError, InputError, ShapeError
from tagmask.files import ensure_folder
from tagmask.images import read_image
from tagmask.masks import IndexMap, read_index_png
from tagmask.pipelines.dense import DensePipeline
from tagmask.pipelines.head import HEAD_FILE, Head, read_head, write_head
from tagmask.pipelines.head_fitting import FittedHead, HeadFitting, fit_to_itself
from tagmask.runs.corrections import keep_correction
from tagmask.runs.ownership import check_ours, is_run_folder
from tagmask.runs.reader import Run
from tagmask.runs.recipe import run_recipe, run_segmenter
from tagmask.runs.rows import ImageRow
from tagmask.runtime.folders import FoundImage
from tagmask.strict_json import json_text
from tagmask.types import Image
from tagmask.weak.mask_folder import mask_files, read_mask, words_of

__all__ = ["checked_masks", "improve_run", "listed_images", "mask_again"]

_ITSELF = 64
"""Most images that a run learns from by itself, evenly spaced over it."""


@dataclass(frozen=True)
class CheckedMask:
    """A mask that a person made or accepted."""

    found: FoundImage
    read: Callable[[], IndexMap]


def improve_run(
    path: Path,
    out: Path,
    load: Callable[[Run], Clip],
    *,
    source: Path | None = None,
    itself: bool = False,
    rounds: int = 2,
    overlays: bool = True,
    workers: int = 1,
) -> int:
    """Fit a head to a run's checked masks or to itself, and mask all of the run's images with it.

    Args:
        path: the run.
        out: folder of the new run, which gets the head too.
        load: loads the weights of a run.
        source: a folder of masks to learn from; None: the run's own corrected and accepted masks.
        itself: learn from the run's own masks where they are confident.
        rounds: of learning from itself.
        overlays: draw the new masks over the images.
        workers: images masked at once.

    Returns:
        Number of images that could not be masked.

    Raises:
        InputError: a run that cannot be repeated, nothing to learn from, nothing learned that helps, or `out`
            holds something else.
    """
    with Run(path) as run:
        recipe = run_recipe(run)
        rows = [row for row in run if row.status != "failed" or row.source.exists()]
        images = listed_images(rows)
        checked = [] if itself else list(checked_masks(run, rows, source))
        if not itself and not checked:
            raise InputError(
                f"{path} has no corrected masks to learn from. Correct some (`tagmask import`), give a "
                "folder of masks with --from, or learn without a person with --self."
            )
        segmenter = run_segmenter(run, recipe, lambda: load(run))
        pipeline = DensePipeline(segmenter.clip, recipe)
        done = [image for image, row in zip(images, rows, strict=True) if row.status == "done"]
        origin = _origin_of_run(rounds, done) if itself else _origin_of_masks(checked)
        head = _known_head(out, origin)
        known = head is not None
        if head is None:
            fitted = _fit_itself(pipeline, done, rounds) if itself else _fit(pipeline, checked)
            _report(fitted, itself)
            head = replace(fitted.head, origin=origin)
        else:
            message(f"{out / HEAD_FILE} was fitted to the same masks, and is used again.")
    improved = Segmenter(segmenter.clip, recipe=recipe, head=head)
    return mask_again(improved, images, out, checked, keeps_head=known, overlays=overlays, workers=workers)


def mask_again(
    segmenter: Segmenter,
    images: list[FoundImage],
    out: Path,
    checked: Sequence[CheckedMask],
    *,
    keeps_head: bool = False,
    overlays: bool = True,
    workers: int = 1,
) -> int:
    """Mask images into a new run, which gets the segmenter's head and the masks that a person checked.

    Args:
        segmenter: masks them.
        images: of the run that is repeated.
        out: folder of the new run.
        checked: masks that stay.
        keeps_head: `out` has this head already.
        overlays: draw the new masks over the images.
        workers: images masked at once.

    Returns:
        Number of images that could not be masked.

    Raises:
        InputError: `out` holds something else.
    """
    masker = segmenter_masker(segmenter, None)
    check_ours(out, masker.identity)
    ensure_folder(out)
    if segmenter.head is not None and not keeps_head:
        write_head(segmenter.head, out / HEAD_FILE)

    def made() -> Masker:
        return masker

    failed = mask_images(
        images, made, out=out, overlays=overlays, formats=frozenset({"png"}), tags=None, workers=workers
    )
    if checked:
        _carry_over(out, checked)
    return failed


def listed_images(rows: Sequence[ImageRow]) -> list[FoundImage]:
    """The images of rows, as `find_images` gives them."""
    return [_found(row) for row in rows]


def _found(row: ImageRow) -> FoundImage:
    """The image of a row as `find_images` gives it: its key says how deep it lies in the folder given."""
    depth = row.key.count("/")
    return FoundImage(row.source, PurePosixPath(*row.source.parts[-depth:]))


# -- What to learn from --------------------------------------------------------------------------------------


def checked_masks(run: Run, rows: Sequence[ImageRow], source: Path | None) -> Iterator[CheckedMask]:
    """Yield the masks of a run that a person corrected or accepted, or those in a folder.

    Raises:
        InputError: there is no such folder, or it is of other words.
    """
    if source is None:
        for row in rows:
            if row.review in ("corrected", "accepted") and row.status == "done" and not row.stale:
                yield CheckedMask(_found(row), partial(run.mask, row))
        return
    if not source.is_dir():
        raise InputError(f"There is no folder {source}. Give a folder of masks, named like the images.")
    named = words_of(source)
    listed = source / "classes.txt"
    if not named and listed.exists():
        named = tuple(line.strip() for line in listed.read_text("utf-8").splitlines())
    if named and named != run.words:
        raise InputError(
            f"The masks in {source} are of other words than the run: {', '.join(named[:6])}. Bring them in "
            "with `tagmask import`, which goes by names."
        )
    found = [_found(row) for row in rows]
    for image, file in zip(found, mask_files(source, found), strict=True):
        if file is not None and file.exists():
            yield CheckedMask(image, partial(read_mask, file, len(run.words)))


def _origin_of_masks(checked: Sequence[CheckedMask]) -> str:
    digest = hashlib.sha256()
    for each in checked:
        digest.update(str(each.found.name).encode("utf-8", "surrogateescape"))
        digest.update(np.ascontiguousarray(each.read()).tobytes())
    return digest.hexdigest()


def _origin_of_run(rounds: int, images: Sequence[FoundImage]) -> str:
    names = [str(image.name) for image in images]
    return hashlib.sha256(json_text(["itself", rounds, names]).encode()).hexdigest()


def _known_head(out: Path, origin: str) -> Head | None:
    """The head of an earlier start of the same command, so that it goes on."""
    file = out / HEAD_FILE
    if not file.exists():
        if is_run_folder(out):
            raise InputError(f"{out} holds another run. Choose another folder for this one.")
        return None
    head = read_head(file)
    if head.origin != origin:
        raise InputError(f"{file} was fitted to other masks. Choose another folder for this run.")
    return head


# -- Learning ------------------------------------------------------------------------------------------------


def _fit(pipeline: DensePipeline, checked: Sequence[CheckedMask]) -> FittedHead:
    fitting = HeadFitting(pipeline, len(checked))
    for each in with_progress(iter(checked), len(checked), failures=lambda: 0):
        try:
            fitting.add(read_image(each.found.path), each.read())
        except (ImageError, ShapeError) as error:
            report_failure(each.found.path, str(error))
    return fitting.fit()


def _fit_itself(pipeline: DensePipeline, images: Sequence[FoundImage], rounds: int) -> FittedHead:
    kept = min(len(images), _ITSELF)
    chosen = [images[i * len(images) // kept] for i in range(kept)]
    pixels: list[Image] = []
    for each in chosen:
        try:
            pixels.append(read_image(each.path))
        except ImageError as error:
            report_failure(each.path, str(error))
    return fit_to_itself(pipeline, pixels, rounds)


def _report(fitted: FittedHead, itself: bool) -> None:
    head, validation = fitted.head, fitted.validation
    what = "the run's own confident pixels, refined by PAMR" if itself else "checked masks"
    if math.isinf(head.penalty):
        raise InputError(
            f"Nothing was learned from {head.images} images of {what} that helps images left out, so no head "
            "was written. " + ("Correct a few masks." if itself else "Correct more of them.")
        )
    message(f"Learned from {head.images} images: {what}; penalty {head.penalty:.3g}.")
    if validation.images:
        truth = "their refined masks" if itself else "their checked masks"
        message(
            f"On images left out, one at a time, mIoU with {truth} goes from {validation.before:.1%} to "
            f"{validation.after:.1%} (by patches, {validation.images} images)."
        )
    else:
        message("With one image the gain cannot be estimated. Correct a second one.")


# -- Afterwards ----------------------------------------------------------------------------------------------


def _carry_over(out: Path, checked: Sequence[CheckedMask]) -> None:
    """Keep the masks that a person checked: as corrections, or as accepted where the new mask is the same."""
    kept = 0
    with Run(out, reviews=True) as run:
        rows = run.rows_of([each.found for each in checked])
        for each, row in zip(checked, rows, strict=True):
            if row is None or row.status != "done" or row.review != "unseen":
                continue
            labels, new = each.read(), read_index_png(run.output_path(row, "masks"))
            if labels.shape != new.shape:
                continue
            if np.array_equal(labels, new):
                run.database.set_review(row.id, "accepted")
            else:
                keep_correction(run, run.database, row, labels.astype(new.dtype))
            kept += 1
    if kept:
        masks = "1 checked mask stays: it goes" if kept == 1 else f"{kept} checked masks stay: they go"
        message(f"{masks} before the new ones.")
