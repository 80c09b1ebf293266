"""Find images in files and folders, and name their outputs."""

import os
import unicodedata
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path, PurePosixPath

from tagmask.checks import did_you_mean_file
from tagmask.errors import InputError

__all__ = ["IMAGE_SUFFIXES", "FoundImage", "find_images", "fold", "output_names", "root_of"]

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
        paths: image files with any extension, folders, and patterns such as `photos/*.jpg`, which shells on
            Windows leave as they are.

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
    for path in _expanded(paths):
        if path.is_dir():
            images = _walk(path)
        elif path.exists():
            images = [FoundImage(path, PurePosixPath(path.name))]
        else:
            raise InputError(f"There is no file or folder {path}.{did_you_mean_file(path)}", *_here(path))
        if not images:
            raise InputError(
                f"No images in {path}. Expected files ending in {' '.join(sorted(IMAGE_SUFFIXES))}."
            )
        # Only across arguments: within one folder, two links to the same file are two images of a data set.
        resolved = [image.path.resolve() for image in images] if len(paths) > 1 else [None] * len(images)
        found += [image for image, file in zip(images, resolved, strict=True) if file not in seen]
        seen.update(resolved)
    return found


def _expanded(paths: Sequence[Path]) -> Iterator[Path]:
    """The paths, with patterns that are no file's name replaced by the paths that match them."""
    for path in paths:
        if path.exists() or not has_magic(str(path)):
            yield path
            continue
        matches = sorted(glob(str(path), recursive=True))  # noqa: PTH207 (a Path cannot be absolute there)
        if not matches:
            raise InputError(f"No files match {path}.", *_here(path))
        yield from map(Path, matches)


def _here(path: Path) -> tuple[str, ...]:
    return () if path.is_absolute() else (f"The current folder is {Path.cwd()}.",)


def _walk(root: Path) -> list[FoundImage]:
    # Text and directory entries, not paths: a folder may hold 100,000 images.
    files: list[tuple[tuple[str, ...], str]] = []
    visited: set[str] = set()
    pending: deque[tuple[tuple[str, ...], str]] = deque([((), str(root))])
    while pending:
        parts, folder = pending.popleft()
        real = os.path.realpath(folder)
        if real in visited:
            continue
        visited.add(real)
        try:
            with os.scandir(folder) as scanned:
                entries = sorted((e for e in scanned if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            if not parts:
                raise InputError(f"Cannot list the folder {folder}: {error.strerror}.") from error
            files.append((parts, folder))  # so that it is reported among the images that failed
            continue
        # Links come after all real folders, so that images are never named through a loop of links.
        for entry in entries:
            if _is_folder(entry):
                below = (*parts, entry.name), entry.path
                if entry.is_symlink():
                    pending.append(below)
                else:
                    pending.appendleft(below)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122 (many names)
                files.append(((*parts, entry.name), entry.path))
    return [FoundImage(Path(path), PurePosixPath("/".join(parts))) for parts, path in sorted(files)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


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
    roots = [root_of(image) for image in images]
    stems = [str(image.name.with_suffix("")) for image in images]
    folded = [fold(stem) for stem in stems]
    counts = Counter(folded)
    counts_in_root = Counter(zip(roots, folded, strict=True))
    plain: list[str] = []
    for image, root, stem, key in zip(images, roots, stems, folded, strict=True):
        in_root = counts_in_root[root, key]
        name = str(image.name) if in_root > 1 else stem
        folder = os.path.basename(root)  # noqa: PTH119 (text); empty for the root of the disk
        plain.append(f"{folder}/{name}" if folder and counts[key] > in_root else name)
    taken = set(map(fold, plain))
    used: set[str] = set()
    names = []
    for name in plain:
        free, number = name, 2
        while (key := fold(free)) in used or (free is not name and key in taken):
            free, number = f"{name}-{number}", number + 1
        used.add(key)
        names.append(PurePosixPath(free))
    return names


def root_of(image: FoundImage) -> str:
    """Return the absolute folder that `image.name` is relative to; links stay. Text: listings may be long."""
    path = os.path.abspath(image.path)  # noqa: PTH100 (keeps links)
    return path.rsplit(os.sep, len(image.name.parts))[0] or os.sep


def fold(name: str) -> str:
    """Normalise a name as file systems that ignore case and Unicode composition do.

    Example:
        >>> fold("Cafe\u0301") == fold("caf\u00e9")
        True
    """
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
