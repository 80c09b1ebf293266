"""Which images files and folders stand for, and what their outputs are called."""

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
"""Lower-case endings of the files looked for in folders. Files given one by one may have any ending."""


@dataclass(frozen=True)
class FoundImage:
    """An image file and what to call it."""

    path: Path
    """Where it is."""
    name: PurePosixPath
    """Its path below the folder that was given; the file's name where the file itself was given."""


def find_images(paths: Sequence[Path]) -> list[FoundImage]:
    """List the image files that files and folders stand for.

    Folders are walked to the bottom, links included, each real folder once; names that start with a
    dot (macOS's `._x` among them) are passed over. Only endings are looked at, not contents.

    Args:
        paths: image files, kept whatever their ending, and folders.

    Returns:
        The images, argument by argument, sorted by name within one; a file that several arguments
        reach is kept once, for the first of them.

    Raises:
        InputError: nothing given, a path that does not exist, a folder without images or one that
            may not be listed.
    """
    if not paths:
        raise InputError("No images: give at least one image file or folder.")
    found: list[FoundImage] = []
    seen: set[Path | None] = set()
    for path in paths:
        if path.is_dir():
            images = [FoundImage(p, PurePosixPath(p.relative_to(path).as_posix())) for p in _walk(path)]
        elif path.exists():
            images = [FoundImage(path, PurePosixPath(path.name))]
        else:
            raise InputError(f"There is no file or folder {path}; looked from {Path.cwd()}.")
        if not images:
            raise InputError(f"No images below {path}; looked for {' '.join(sorted(IMAGE_SUFFIXES))}.")
        # Only across arguments: within one, two links to one file are two images of a data set.
        real = [image.path.resolve() for image in images] if len(paths) > 1 else [None] * len(images)
        found += [image for image, file in zip(images, real, strict=True) if file not in seen]
        seen.update(real)
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
                raise InputError(f"The folder {folder} cannot be listed: {error.strerror}.") from error
            files.append(folder)  # kept, so that it is named among what failed
            continue
        # Links wait until all real folders are done, so that a loop never names an image.
        pending.extendleft(entry for entry, link in folders.items() if not link)
        pending.extend(entry for entry, link in folders.items() if link)
        files += [e for e in entries if e.suffix.lower() in IMAGE_SUFFIXES and e not in folders]
    return sorted(files, key=lambda file: file.parts)


def output_names(found: Sequence[FoundImage]) -> list[PurePosixPath]:
    """Give each image a name for its outputs, no two alike, even where case is ignored.

    A name is the image's own, without its ending. Where that is not enough: images of one folder
    keep their endings (`a.jpg`, `a.png`), images of different folders given get those folders'
    names in front, and what is still alike is numbered (`a-2`).

    Args:
        found: as `find_images` returns them.

    Returns:
        One relative name per image, in order. Add an ending with `f"{name}.png"`, never
        `with_suffix`, which would cut `IMG_0.5` short.

    Example:
        >>> names = [PurePosixPath(n) for n in ("sub/a.jpg", "sub/b.jpg", "sub/B.png")]
        >>> [str(n) for n in output_names([FoundImage(Path("photos") / n, n) for n in names])]
        ['sub/a', 'sub/b.jpg', 'sub/B.png']
    """
    roots = [_root(image) for image in found]
    stems = [image.name.with_suffix("") for image in found]
    alike = Counter(map(_key, stems))
    alike_here = Counter((root, _key(stem)) for root, stem in zip(roots, stems, strict=True))
    names = []
    for image, root, stem in zip(found, roots, stems, strict=True):
        here = alike_here[root, _key(stem)]
        name = image.name if here > 1 else stem
        names.append(PurePosixPath(root.name) / name if alike[_key(stem)] > here else name)
    taken = set(map(_key, names))
    used: set[str] = set()
    for i, name in enumerate(names):
        number = 2
        while _key(names[i]) in used or (names[i] is not name and _key(names[i]) in taken):
            names[i] = name.with_name(f"{name.name}-{number}")
            number += 1
        used.add(_key(names[i]))
    return names


def _root(image: FoundImage) -> Path:
    return Path(os.path.abspath(image.path)).parents[len(image.name.parts) - 1]  # noqa: PTH100 (keeps links)


def _key(name: PurePosixPath) -> str:
    """What a disk that ignores case and Unicode composition sees of a name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(name)).casefold())
