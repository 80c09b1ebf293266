"""Folders of masks, one index PNG per image: resumable writing, validated reading.

FOLDER/stage.json     words, settings, source of the masks
FOLDER/masks/NAME.png class per pixel, or `IGNORE_INDEX`; NAME is the image's path without its suffix
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import UInt8

from tagmask.errors import ImageError, InputError
from tagmask.files import write_bytes
from tagmask.masks import index_png, read_index_png
from tagmask.runs.ordered_map import Outcome, ordered_map
from tagmask.runtime.folders import FoundImage, output_names
from tagmask.weak.labels import IGNORE_INDEX
from tagmask.weak.run_folder import open_run_folder, read_run_folder

__all__ = ["Mask", "MaskSource", "left_out", "mask_file", "read_mask", "words_of", "write_masks"]

MaskOutcome: TypeAlias = Outcome[FoundImage, Path]
"""An image's mask file, or the error that prevented it."""

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
    make: Callable[[FoundImage], Mask]
    """Compute the labels of an image, at the image's size."""


def write_masks(images: Sequence[FoundImage], source: MaskSource, folder: Path) -> Iterator[MaskOutcome]:
    """Write the mask of every image while the iterator is consumed; existing masks are kept.

    Files are written atomically, so an interrupted run resumes. An image that fails does not stop the
    others: the folder records it as left out, and the next run tries it again.

    Args:
        images: the images.
        source: computes the masks.
        folder: output folder.

    Raises:
        InputError: the folder has other settings, or two images would share one mask file.
        OutputError: a mask cannot be written: the disk is full, or the folder is not writable.
    """
    settings = {"words": list(source.words), **source.settings}
    with open_run_folder(folder, source.kind, settings, {"words": list(source.words)}) as run_folder:
        mask_names = dict(zip(images, map(str, output_names(images)), strict=True))
        failed: list[str] = []

        def work(image: FoundImage) -> tuple[Path, bytes | None]:
            file = mask_file(folder, mask_names[image])
            if file.exists():
                return file, None
            return file, index_png(_checked(source.make(image), len(source.words), str(image.path)))

        for outcome in ordered_map(images, work):
            if outcome.result is None:
                failed.append(mask_names[outcome.item])
                yield Outcome(outcome.item, None, outcome.error)
                continue
            file, content = outcome.result
            if content is not None:  # written here: a full disk must stop the run, an invalid image must not
                write_bytes(file, content)
            yield Outcome(outcome.item, file, None)
        if len(failed) < len(images):
            run_folder.finish(left_out=failed)


def mask_file(folder: Path, name: str) -> Path:
    """Path of an image's mask: in `masks/` for folders that tagmask wrote, else directly in the folder.

    A folder that contains `masks/` counts as written by tagmask.
    """
    masks = folder / "masks"
    return (masks if masks.is_dir() or read_run_folder(folder) is not None else folder) / f"{name}.png"


def words_of(folder: Path) -> tuple[str, ...]:
    """Class names recorded in a folder of masks; empty if it records none.

    Raises:
        InputError: the folder is not finished.
    """
    run_folder = read_run_folder(folder)
    if run_folder is None:
        return ()
    if not run_folder.finished:
        raise InputError(
            f"The masks in {folder} are incomplete. Run the command that started them again to resume."
        )
    words = run_folder.metadata.get("words")
    return tuple(str(word) for word in words) if isinstance(words, list) else ()


def left_out(folder: Path) -> frozenset[str]:
    """Names of the images whose mask could not be computed."""
    run_folder = read_run_folder(folder)
    names = [] if run_folder is None else run_folder.metadata.get("left_out")
    return frozenset(str(name) for name in names) if isinstance(names, list) else frozenset()


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
