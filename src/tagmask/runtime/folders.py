"""Find images in files and folders, and name their outputs."""

import os
import unicodedata
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tagmask.errors import InputError

__all__ = ["IMAGE_SUFFIXES", "FoundImage", "find_images", "output_names"]

_JPEG, _PNG, _TIFF = (".jpg", ".jpeg", ".jpe", ".jfif"), (".png", ".apng"), (".tif", ".tiff")
_OTHERS = (".webp", ".bmp", ".gif", ".jp2", ".avif", ".ppm", ".pgm", ".pnm")
IMAGE_SUFFIXES = frozenset(_JPEG + _PNG + _TIFF + _OTHERS)
"""Lower-case extensions of images in folders. Files given one by one may have any extension."""


@dataclass(frozen=True)
class FoundImage:
    """An image file and its relative name."""

    path: Path
    """Path of the file."""
    name: PurePosixPath
    """Path relative to the given folder; the file name if the file itself was given."""


def find_images(paths: Sequence[Path]) -> list[FoundImage]:
    """List the image files in the given files and folders.

    Folders are searched recursively, through links too, each real folder once. Names that start with a dot
    (such as macOS's `._x`) are skipped. In folders, the extension decides what is an image, not the content.

    Args:
        paths: image files with any extension, and folders.

    Returns:
        The images in the order of the arguments, sorted by name within each. A file that several arguments
        include is listed once, for the first of them.

    Raises:
        InputError: no paths, a path that does not exist, or a folder without images or that cannot be listed.
    """
    if not paths:
        raise InputError("No images given. Give at least one image file or folder.")
    found: list[FoundImage] = []
    seen: set[Path | None] = set()
    for path in paths:
        if path.is_dir():
            images = [FoundImage(p, PurePosixPath(p.relative_to(path).as_posix())) for p in _walk(path)]
        elif path.exists():
            images = [FoundImage(path, PurePosixPath(path.name))]
        else:
            raise InputError(f"There is no file or folder {path} (current folder: {Path.cwd()}).")
        if not images:
            raise InputError(
                f"No images in {path}. Expected files ending in {' '.join(sorted(IMAGE_SUFFIXES))}."
            )
        # Only across arguments: within one folder, two links to the same file are two images of a data set.
        resolved = [image.path.resolve() for image in images] if len(paths) > 1 else [None] * len(images)
        found += [image for image, file in zip(images, resolved, strict=True) if file not in seen]
        seen.update(resolved)
    return found


def _walk(root: Path) -> list[Path]:
    files: list[Path] = []
    visited: set[Path] = set()
    pending = deque([root])
    while pending:
        folder = pending.popleft()
        real = folder.resolve()
        if real in visited:
            continue
        visited.add(real)
        try:
            entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
            folders = {entry: entry.is_symlink() for entry in entries if entry.is_dir()}
        except OSError as error:
            if folder == root:
                raise InputError(f"Cannot list the folder {folder}: {error.strerror}.") from error
            files.append(folder)  # so that it is reported among the images that failed
            continue
        # Links come after all real folders, so that images are never named through a loop of links.
        pending.extendleft(entry for entry, link in folders.items() if not link)
        pending.extend(entry for entry, link in folders.items() if link)
        files += [e for e in entries if e.suffix.lower() in IMAGE_SUFFIXES and e not in folders]
    return sorted(files, key=lambda file: file.parts)


def output_names(images: Sequence[FoundImage]) -> list[PurePosixPath]:
    """Give each image a unique name for its outputs, even on file systems that ignore case.

    The name is the image's relative name without its extension. If two would be equal, images of the same
    given folder keep their extensions (`a.jpg`, `a.png`), images of different given folders get the folder's
    name in front, and names that are still equal are numbered (`a-2`).

    Args:
        images: as returned by `find_images`.

    Returns:
        One relative name per image, in order. Add an extension with `f"{name}.png"`, never with
        `with_suffix`, which would turn `IMG_0.5` into `IMG_0.png`.

    Example:
        >>> names = [PurePosixPath(n) for n in ("sub/a.jpg", "sub/b.jpg", "sub/B.png")]
        >>> [str(n) for n in output_names([FoundImage(Path("photos") / n, n) for n in names])]
        ['sub/a', 'sub/b.jpg', 'sub/B.png']
    """
    roots = [_root(image) for image in images]
    stems = [image.name.with_suffix("") for image in images]
    counts = Counter(map(_normalised, stems))
    counts_in_root = Counter((root, _normalised(stem)) for root, stem in zip(roots, stems, strict=True))
    names = []
    for image, root, stem in zip(images, roots, stems, strict=True):
        in_root = counts_in_root[root, _normalised(stem)]
        name = image.name if in_root > 1 else stem
        names.append(PurePosixPath(root.name) / name if counts[_normalised(stem)] > in_root else name)
    taken = set(map(_normalised, names))
    used: set[str] = set()
    for i, name in enumerate(names):
        number = 2
        while _normalised(names[i]) in used or (names[i] is not name and _normalised(names[i]) in taken):
            names[i] = name.with_name(f"{name.name}-{number}")
            number += 1
        used.add(_normalised(names[i]))
    return names


def _root(image: FoundImage) -> Path:
    return Path(os.path.abspath(image.path)).parents[len(image.name.parts) - 1]  # noqa: PTH100 (keeps links)


def _normalised(name: PurePosixPath) -> str:
    """Normalise a name as file systems that ignore case and Unicode composition do."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(name)).casefold())
