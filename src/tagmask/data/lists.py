"""Lists of images: devkits' id lists, and the papers' tag files with lines `IMAGE INDEX INDEX ...`."""

import gzip
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath

from tagmask.checks import check_choice
from tagmask.errors import InputError
from tagmask.reading import read_text
from tagmask.relative_paths import is_below

__all__ = ["line_names", "parse_tags", "read_ids", "read_tags", "shipped_tags"]


def read_ids(path: Path) -> tuple[str, ...]:
    """Read the image ids of a devkit's list, in its order.

    The id is the first field of each line, or its stem if it is a path such as `/JPEGImages/2007_000032.jpg`.

    Raises:
        InputError: the list is unreadable or empty, or names an image twice or one outside of its folder.
    """
    fields = [
        line.split()[0]
        for line in read_text(path, "List", _ADVICE.format("'2007_000032'")).splitlines()
        if line.strip()
    ]
    ids = tuple(PurePosixPath(field).stem if field.startswith("/") else field for field in fields)
    if not ids:
        raise InputError(f"The list {path} is empty. Download it again: it names one image per line.")
    outside = [id_ for id_ in ids if not is_below(id_)]
    if outside:
        raise InputError(
            f"The list {path} has {outside[0]!r}, which is not the name of an image below its folder. "
            "Give names such as '2007_000032'."
        )
    if len(set(ids)) < len(ids):
        duplicate, _ = Counter(ids).most_common(1)[0]
        raise InputError(f"The list {path} names {duplicate!r} twice. Keep one line.")
    return ids


def read_tags(path: Path, classes: int) -> Mapping[str, tuple[int, ...]]:
    """Read tags by the name that begins each line, in the order of the line.

    A name is an image's whole relative name without its ending (`train/1`), or only its last part (`1`);
    `line_names` finds the images that are meant.

    Args:
        path: the file.
        classes: number of classes; indices run from 0.

    Raises:
        InputError: the file is unreadable, or a line is not an image name and class indices, has a class
            twice or out of range, or repeats an image.
    """
    return parse_tags(read_text(path, "Tag file", _ADVICE.format("'2007_000032 0 14'")), str(path), classes)


def parse_tags(text: str, what: str, classes: int) -> Mapping[str, tuple[int, ...]]:
    """Parse the text of a tag file as `read_tags` does; error messages call the file `what`."""
    tags_of: dict[str, tuple[int, ...]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, *fields = line.split()
        tags = tuple(_class(field, what, number, classes) for field in fields)
        if len(set(tags)) < len(tags):
            raise InputError(f"Line {number} of {what} names a class twice: {line.strip()!r}. Keep one.")
        if name in tags_of:
            raise InputError(f"Line {number} of {what} is the second for image {name!r}. Keep one.")
        tags_of[name] = tags
    return tags_of


def line_names(
    names: Sequence[str], files: Sequence[Path], lines: Container[str], what: str = "The tag file"
) -> list[str | None]:
    """Find the line of each image: that of its whole name, else that of the name's last part.

    Args:
        names: relative names without endings.
        files: the images, for error messages.
        lines: the names that begin the file's lines.
        what: the file, for error messages.

    Returns:
        The name that begins each image's line; None for an image without one.

    Raises:
        InputError: a line may mean two of the images.

    Example:
        >>> line_names(["train/1", "val/2"], [Path("1.png"), Path("2.png")], {"train/1", "2"})
        ['train/1', '2']
    """
    found: list[str | None] = []
    named: dict[str, list[int]] = {}
    ending: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        named.setdefault(name, []).append(i)
        ending.setdefault(_last(name), []).append(i)
    for name in names:
        line = name if name in lines else _last(name)
        found.append(line if line in lines else None)
        # A last part must be one image's alone, even where the others have lines of their own.
        meant = named[name] if line == name else ending[line]
        if found[-1] is not None and len(meant) > 1:
            first, second, *_ = meant
            raise InputError(
                _ambiguous(what, line, (names[first], names[second]), (files[first], files[second]))
            )
    return found


def _ambiguous(what: str, line: str, names: tuple[str, str], files: tuple[Path, Path]) -> str:
    problem = f"{what} has a line for {line!r}, which may mean {files[0]} or {files[1]}."
    if names[0] == names[1]:
        return f"{problem} Rename one of them, or give the folder that holds both folders."
    return f"{problem} Write whole names, such as {names[0]!r} and {names[1]!r}."


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def shipped_tags(name: str, classes: int) -> Mapping[str, tuple[int, ...]]:
    """Return one of TagCLIP's ground-truth lists, in its order; each image's tags ascend.

    Args:
        name: `voc2007_test`, `voc2012_val`, `coco2017_val` or `coco-stuff_curated` (raw ids, 0 to 181).
        classes: number of classes in the list.

    Raises:
        InputError: an unknown name.

    Source:
        TagCLIP's released program.

    Example:
        >>> len(shipped_tags("voc2012_val", 20))
        1449
    """
    check_choice("TagCLIP list", name, _SHIPPED)
    packed = (resources.files(__package__) / "published" / f"{name}.txt.gz").read_bytes()
    tags = parse_tags(gzip.decompress(packed).decode(), name, classes)
    return {image: tuple(sorted(of_image)) for image, of_image in tags.items()}


def _class(field: str, what: str, line: int, classes: int) -> int:
    tag = int(field) if field.isdecimal() and len(field) < _DIGITS else -1
    if not 0 <= tag < classes:
        raise InputError(f"Line {line} of {what} has {field!r}. Give class indices from 0 to {classes - 1}.")
    return tag


_ADVICE = "Give a file with lines such as {}."

_SHIPPED = ("voc2007_test", "voc2012_val", "coco2017_val", "coco-stuff_curated")

_DIGITS = 9
"""Longer numbers are rejected without parsing them."""
