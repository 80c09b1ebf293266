"""Folders of index PNGs, one a picture: written so that a stop loses nothing, read so that faults are named.

FOLDER/stage.json     words, settings, where the masks come from
FOLDER/masks/NAME.png class per pixel, 255 for nothing; NAME is the picture's path without its ending
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
from tagmask.weak.run_folder import open_run_folder, read_run_folder

__all__ = ["Mask", "MaskSource", "left_out", "mask_file", "read_mask", "words_of", "write_masks"]

MaskOutcome: TypeAlias = Outcome[FoundImage, Path]
"""The file of an image's mask, or why there is none."""

Mask: TypeAlias = UInt8[np.ndarray, "_ _"]


@dataclass(frozen=True, eq=False)
class MaskSource:
    """Where masks come from."""

    kind: str
    """What the folder is called for: "seeds", "pseudo"."""
    words: tuple[str, ...]
    """What each label is called, background first."""
    settings: Mapping[str, object]
    """All that decides the masks, for JSON; a folder is taken up again only with the same."""
    make: Callable[[FoundImage], Mask]
    """The labels of a picture, at its own size."""


def write_masks(images: Sequence[FoundImage], source: MaskSource, folder: Path) -> Iterator[MaskOutcome]:
    """Write the mask of every picture, as the iterator is read; those that are there are kept.

    Each file is whole or not there, so a run that was stopped at any moment goes on where it was. One bad
    picture does not stop the rest: the folder says that it was left out, and another run tries it again.

    Args:
        images: the pictures.
        source: what makes the masks.
        folder: where to.

    Raises:
        InputError: the folder was begun with other settings, or a picture's mask would have two owners.
        OutputError: a mask cannot be written: the disk is full, or the folder is not to be written to.
    """
    settings = {"words": list(source.words), **source.settings}
    with open_run_folder(folder, source.kind, settings, {"words": list(source.words)}) as stage:
        mask_names = dict(zip(images, map(str, output_names(images)), strict=True))
        missed: list[str] = []

        def work(image: FoundImage) -> tuple[Path, bytes | None]:
            file = mask_file(folder, mask_names[image])
            if file.exists():
                return file, None
            return file, index_png(_checked(source.make(image), len(source.words), str(image.path)))

        for outcome in ordered_map(images, work):
            if outcome.result is None:
                missed.append(mask_names[outcome.item])
                yield Outcome(outcome.item, None, outcome.error)
                continue
            file, content = outcome.result
            if (
                content is not None
            ):  # written here, since a full disk stops the run, while a bad picture does not
                write_bytes(file, content)
            yield Outcome(outcome.item, file, None)
        if len(missed) < len(images):
            stage.finish(left_out=missed)


def mask_file(folder: Path, name: str) -> Path:
    """Where the mask of a picture lies: below `masks/` in folders that tagmask wrote, else in the folder.

    A folder that holds a `masks/` is taken for tagmask's.
    """
    below = folder / "masks"
    return (below if below.is_dir() or read_run_folder(folder) is not None else folder) / f"{name}.png"


def words_of(folder: Path) -> tuple[str, ...]:
    """The class names that a folder of masks says it has; none where it says nothing.

    Raises:
        InputError: the folder is not finished.
    """
    stage = read_run_folder(folder)
    if stage is None:
        return ()
    if not stage.finished:
        raise InputError(
            f"the masks in {folder} are not all there; run the command that began them again, it goes on"
        )
    words = stage.metadata.get("words")
    return tuple(str(word) for word in words) if isinstance(words, list) else ()


def left_out(folder: Path) -> frozenset[str]:
    """Names of the pictures that no mask could be made of."""
    stage = read_run_folder(folder)
    names = [] if stage is None else stage.metadata.get("left_out")
    return frozenset(str(name) for name in names) if isinstance(names, list) else frozenset()


def read_mask(file: Path, classes: int) -> Mask:
    """Read a mask and see that it fits the classes.

    Args:
        file: an index PNG, of 8 bits.
        classes: how many there are; labels are 0 to `classes` - 1, or 255.

    Raises:
        InputError: the file is absent, damaged, or holds a label that is no class.
    """
    if not file.exists():
        raise InputError(f"there is no mask {file}; make it, or leave its picture out")
    try:
        labels = read_index_png(file)
    except ImageError as error:
        raise InputError(f"the mask {file} cannot be read: {error}") from error
    if labels.dtype != np.uint8:
        raise InputError(f"the mask {file} has 16 bits; give 8-bit masks, of up to 254 classes")
    return _checked(labels, classes, str(file))


def _checked(labels: np.ndarray, classes: int, what: str) -> Mask:
    top = int(labels.max(where=labels != 255, initial=0))
    if top >= classes:
        raise InputError(
            f"the mask of {what} holds label {top}, and there are {classes} classes, counted from 0; "
            "give the words that it was made with, or 255 for what is no class"
        )
    return labels.astype(np.uint8, copy=False)
