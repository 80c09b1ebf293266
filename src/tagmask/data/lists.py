"""Lists of images: devkits' id lists, and the papers' tag files, `IMAGE INDEX INDEX ...`."""

import gzip
from collections import Counter
from collections.abc import Mapping
from importlib import resources
from pathlib import Path, PurePosixPath

from tagmask.checks import check_choice
from tagmask.errors import InputError

__all__ = ["parse_tags", "read_ids", "read_tags", "shipped_tags"]


def read_ids(path: Path) -> tuple[str, ...]:
    """The image ids of a devkit's list, in its order.

    Each line's first field counts; of a full path, as in `/JPEGImages/2007_000032.jpg ...`, the stem.

    Raises:
        InputError: a list that cannot be read, is empty, or names an image twice.
    """
    fields = [line.split()[0] for line in _text(path, "'2007_000032'").splitlines() if line.strip()]
    ids = tuple(PurePosixPath(field).stem if field.startswith("/") else field for field in fields)
    if not ids:
        raise InputError(f"The list {path} is empty. Fetch it again: it names one image a line.")
    if len(set(ids)) < len(ids):
        twice, _ = Counter(ids).most_common(1)[0]
        raise InputError(f"The list {path} names {twice!r} twice; keep one line.")
    return ids


def read_tags(path: Path, classes: int) -> Mapping[str, tuple[int, ...]]:
    """Tags by image name (without folder and ending), in the order of each line.

    Args:
        path: the file.
        classes: how many classes there are; indices run from 0.

    Raises:
        InputError: a file that cannot be read, or a line that is no image and class numbers, names a class
            twice or one that is not there, or an image twice.
    """
    return parse_tags(_text(path, "'2007_000032 0 14'", "tags file "), str(path), classes)


def parse_tags(text: str, what: str, classes: int) -> Mapping[str, tuple[int, ...]]:
    """As `read_tags`, from the text of a file that messages call `what`."""
    found: dict[str, tuple[int, ...]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, *fields = line.split()
        tags = tuple(_class(field, what, number, classes) for field in fields)
        if len(set(tags)) < len(tags):
            raise InputError(f"line {number} of {what} names a class twice: {line.strip()!r}")
        if name in found:
            raise InputError(f"line {number} of {what} is the second for image {name!r}; keep one")
        found[name] = tags
    return found


def shipped_tags(name: str, classes: int) -> Mapping[str, tuple[int, ...]]:
    """A list of true tags that TagCLIP scores against, in its order; each image's tags ascend.

    Args:
        name: `voc2007_test`, `voc2012_val`, `coco2017_val` or `coco-stuff_curated` (raw ids, 0 to 181).
        classes: how many classes the list numbers.

    Raises:
        InputError: another name.

    Source:
        The lists that come with TagCLIP's program.

    Example:
        >>> len(shipped_tags("voc2012_val", 20))
        1449
    """
    check_choice("TagCLIP list", name, _SHIPPED)
    packed = (resources.files(__package__) / "published" / f"{name}.txt.gz").read_bytes()
    tags = parse_tags(gzip.decompress(packed).decode(), name, classes)
    return {image: tuple(sorted(of_image)) for image, of_image in tags.items()}


def _text(path: Path, example: str, kind: str = "") -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        reason = "it is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise InputError(f"{kind}{path} cannot be read: {reason}; give lines such as {example}") from error


def _class(field: str, what: str, line: int, classes: int) -> int:
    tag = int(field) if field.isdecimal() and len(field) < _DIGITS else -1
    if not 0 <= tag < classes:
        raise InputError(
            f"line {line} of {what} holds {field!r}; wanted are class numbers from 0 to {classes - 1}"
        )
    return tag


_SHIPPED = ("voc2007_test", "voc2012_val", "coco2017_val", "coco-stuff_curated")

_DIGITS = 9
"""A number as long as this is no class."""
