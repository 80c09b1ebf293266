"""Finding one's way in a data set's folder: what is there, and what to say where it is not."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tagmask.data.pixels import Codes, read_labels
from tagmask.data.sample import Sample
from tagmask.errors import InputError
from tagmask.images import read_image

__all__ = ["first_folder", "missing", "named_files", "on_disk"]


def first_folder(root: Path, names: Sequence[str], what: str) -> Path:
    """The first of some folders below `root` (or `root` itself, for ".") that exists.

    Raises:
        InputError: none does; the message names all of them.
    """
    for name in names:
        if (root / name).is_dir():
            return root / name
    places = " or ".join(str(root / name) for name in names)
    raise missing(f"There is no folder of {what}: looked for {places}", root)


def named_files(folder: Path, ending: str) -> tuple[str, ...]:
    """Names without `ending` of a folder's files that have it, sorted; hidden files (macOS's `._x`) left out.

    Raises:
        InputError: a folder that is absent or cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name.endswith(ending) and not e.name.startswith(".")]
    except OSError as error:
        raise missing(f"The folder {folder} cannot be listed ({error.strerror})", folder) from error
    return tuple(sorted(name.removesuffix(ending) for name in names))


def missing(said: str, root: Path) -> InputError:
    """The error for something that a layout has and `root` lacks."""
    looked = "" if root.exists() else f", looked from {Path.cwd()}"
    return InputError(f"{said}{looked}. Give the data set's own folder.")


def on_disk(
    id_: str,
    image: Path,
    mask: Path | None = None,
    meaning: Codes | None = None,
    tags: tuple[int, ...] | None = None,
    unsure: tuple[int, ...] = (),
) -> Sample:
    """A sample whose image, and mask if it has one, are files; neither is looked at yet."""
    reader = None if mask is None or meaning is None else partial(read_labels, mask, image, meaning)
    return Sample(id_, partial(read_image, image), tags, unsure, reader, image, mask)
