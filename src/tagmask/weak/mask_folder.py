"""Folders of masks, one index PNG per image: written as run folders, read with checks.

FOLDER/run.json       words, settings, source of the masks
FOLDER/run.db         what became of each image
FOLDER/classes.json   name of each label
FOLDER/masks/NAME.png class per pixel, or `IGNORE_INDEX`
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import UInt8

from tagmask import __version__
from tagmask.errors import ImageError, InputError
from tagmask.masks import index_png, read_index_png
from tagmask.results import Segmentation
from tagmask.runs.classes import Classes, read_classes
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.ownership import is_run_folder
from tagmask.runs.planning import ImageTask
from tagmask.runs.producer import Produced, Work, produce
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import FoundImage, output_names
from tagmask.weak.labels import IGNORE_INDEX
from tagmask.weak.training_folder import refuse_old_folder

__all__ = [
    "Mask",
    "MaskSource",
    "mask_files",
    "mask_work",
    "named_files",
    "open_masks",
    "read_mask",
    "words_of",
    "write_masks",
]

Mask: TypeAlias = UInt8[np.ndarray, "_ _"]


@dataclass(frozen=True, eq=False)
class MaskSource:
    """A source of masks."""

    kind: str
    """Kind of the masks: "seeds" or "pseudo"."""
    words: tuple[str, ...]
    """Class name of each label, background first."""
    settings: Mapping[str, object]
    """All settings that affect the masks, as JSON values; a folder resumes only with the same settings."""
    make: Callable[[FoundImage], Mask | Segmentation]
    """Compute the labels of an image, at the image's size."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """Recorded in `run.json` without affecting the masks, such as the device."""


def open_masks(source: MaskSource, folder: Path) -> RunFolder:
    """Begin a run of masks in a folder, or go on with it; close what is returned.

    Raises:
        InputError: the folder has other settings, masks that tagmask did not write, or another process uses
            it.
        OutputError: the folder is not writable.
    """
    refuse_old_folder(folder)
    identity = RunIdentity(
        source.kind,
        {"words": source.words, **source.settings},
        {"tagmask": __version__, **source.metadata},
    )
    return RunFolder.open(folder, identity, Classes(source.words, IGNORE_INDEX))


def mask_work(run: RunFolder, source: MaskSource) -> Work:
    """What `produce` calls for each image: computes the mask, checks it and writes it.

    Args:
        run: open, from `open_masks`.
        source: computes the masks.
    """

    def work(task: ImageTask) -> ImageResult:
        made = source.make(task.found)
        if not isinstance(made, Segmentation):
            made = Segmentation(source.words, made, None, True, "")
        labels = _checked(made.labels, len(source.words), str(task.found.path))
        run.write_mask(task.name, index_png(labels))
        return ImageResult(
            width=labels.shape[1],
            height=labels.shape[0],
            tags=None if made.tags is None else [source.words[1 + tag] for tag in made.tags],
            shares=made.pixels(),
            class_confidence=made.class_confidence,
            confidence=made.confidence,
            absent=made.absent,
        )

    return work


def write_masks(images: Sequence[FoundImage], source: MaskSource, folder: Path) -> Iterator[Produced]:
    """Write the masks that are not there yet, while the iterator is consumed.

    A run that was interrupted goes on. An image that fails does not stop the others: the folder records why,
    and the next run tries it again.

    Args:
        images: the images.
        source: computes the masks.
        folder: output folder.

    Raises:
        InputError: see `open_masks`.
        OutputError: a mask cannot be written: the disk is full, or the folder is not writable.
        RepeatedFailure: 20 images in a row failed in the same unexpected way.
    """
    with open_masks(source, folder) as run:
        yield from produce(run, run.plan(images), mask_work(run, source))


def mask_files(folder: Path, images: Sequence[FoundImage]) -> list[Path | None]:
    """Find each image's mask by the image's whole relative name.

    In a run folder the run knows which mask is whose. Elsewhere, masks are found as in `named_files`, in
    `masks/` if the folder has it.

    Args:
        folder: a run folder, or a folder of index PNGs.
        images: all images, as returned by `find_images`.

    Returns:
        A path per image, in order, which need not exist. None: the run could not compute this mask.

    Raises:
        InputError: it is not clear whose a mask is; or a folder of an earlier version.
    """
    refuse_old_folder(folder)
    if is_run_folder(folder):
        return _masks_of_run(folder, images)
    masks = folder / "masks"
    return list(named_files(masks if masks.is_dir() else folder, images, ".png"))


def _masks_of_run(folder: Path, images: Sequence[FoundImage]) -> list[Path | None]:
    with Run(folder) as run:
        rows = run.rows_of(images)
        taken = {row.name for row in rows if row is not None}
        files: list[Path | None] = []
        for image, row, name in zip(images, rows, map(str, output_names(images)), strict=True):
            if row is not None:
                files.append(None if row.status == "failed" else run.mask_path(row))
            elif name not in taken:  # the images' folder has another name now
                files.append(folder / "masks" / f"{name}.png")
            else:
                raise InputError(
                    f"{folder} has no mask of {image.path}, but one of another image with its name. Make "
                    "the masks again in another folder."
                )
        return files


def named_files(folder: Path, images: Sequence[FoundImage], ending: str) -> list[Path]:
    """Find a file for each image by name, in a folder that tagmask did not write.

    The whole relative name comes first: `a/1.png` for `a/1.jpg`. Where there is no such file, one that has
    only the image's own name is taken, `1.png`, which no other image may have.

    Returns:
        A path per image, in order, which need not exist.

    Raises:
        InputError: a file could be of several images.
    """
    names = output_names(images)
    namesakes: dict[str, list[int]] = defaultdict(list)
    for i, image in enumerate(images):
        namesakes[image.path.stem].append(i)
    files = [folder / f"{name}{ending}" for name in names]
    for i, image in enumerate(images):
        flat, meant = folder / f"{image.path.stem}{ending}", namesakes[image.path.stem]
        if flat == files[i] or os.path.lexists(files[i]) or not os.path.lexists(flat):
            continue
        if len(meant) > 1:
            first, second, *_ = meant
            raise InputError(
                f"{flat} could be of {images[first].path} or of {images[second].path}. Name such files by "
                f"whole relative names: {names[first]}{ending} and {names[second]}{ending}."
            )
        files[i] = flat
    return files


def words_of(folder: Path) -> tuple[str, ...]:
    """Class names recorded in a folder of masks; empty if it records none.

    Raises:
        InputError: the run that writes the folder is not finished; or a folder of an earlier version.
    """
    refuse_old_folder(folder)
    if is_run_folder(folder):
        with Run(folder) as run:
            # Images that are gone will never get a mask.
            waiting = any(os.path.lexists(row.source) for row in run.select(status="todo"))
            if waiting or not run.counts["done"]:
                raise InputError(
                    f"The masks in {folder} are incomplete. Run the command that started them again to "
                    "resume."
                )
    classes = folder / "classes.json"
    return read_classes(classes).names if classes.exists() else ()


def read_mask(file: Path, classes: int) -> Mask:
    """Read a mask and check its labels.

    Args:
        file: an 8-bit index PNG.
        classes: number of classes; labels are 0 to `classes` - 1, or `IGNORE_INDEX`.

    Raises:
        InputError: the file is absent, damaged, or has a label out of range.
    """
    if not file.exists():
        raise InputError(f"There is no mask {file}. Create it, or remove its image.")
    try:
        labels = read_index_png(file)
    except ImageError as error:
        raise InputError(f"The mask {file} cannot be read: {error}") from error
    if labels.dtype != np.uint8:
        raise InputError(f"The mask {file} has 16 bits. Give 8-bit masks with up to 254 classes.")
    return _checked(labels, classes, str(file))


def _checked(labels: np.ndarray, classes: int, what: str) -> Mask:
    highest = int(labels.max(where=labels != IGNORE_INDEX, initial=0))
    if highest >= classes:
        raise InputError(
            f"The mask of {what} has label {highest}, but there are only {classes} classes (0 to "
            f"{classes - 1}). Give the words that it was made with, or {IGNORE_INDEX} to ignore a pixel."
        )
    return labels.astype(np.uint8, copy=False)
