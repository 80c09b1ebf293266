"""Find files and folders in a data set's layout, with error messages for what is missing."""

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
    """Return the first folder of `names` that exists below `root`; "." is `root` itself.

    Raises:
        InputError: none exists; the message names all of them.
    """
    for name in names:
        if (root / name).is_dir():
            return root / name
    candidates = " or ".join(str(root / name) for name in names)
    raise missing(f"No folder of {what}: expected {candidates}", root)


def named_files(folder: Path, ending: str) -> tuple[str, ...]:
    """List the files that end in `ending`, without it, sorted; hidden files (macOS's `._x`) are skipped.

    Raises:
        InputError: the folder is missing or cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name.endswith(ending) and not e.name.startswith(".")]
    except OSError as error:
        raise missing(f"The folder {folder} cannot be listed ({error.strerror})", folder) from error
    return tuple(sorted(name.removesuffix(ending) for name in names))


def missing(problem: str, root: Path) -> InputError:
    """Return the error for something that the layout needs and `root` lacks."""
    base = "" if root.exists() else f" (relative to {Path.cwd()})"
    return InputError(f"{problem}{base}. Give the data set's own folder.")


def on_disk(
    id_: str,
    image: Path,
    mask: Path | None = None,
    meaning: Codes | None = None,
    tags: tuple[int, ...] | None = None,
    unsure: tuple[int, ...] = (),
) -> Sample:
    """Return a sample with its image, and its mask if it has one, in files; neither is read yet."""
    reader = None if mask is None or meaning is None else partial(read_labels, mask, image, meaning)
    return Sample(id_, partial(read_image, image), tags, unsure, reader, image, mask)
