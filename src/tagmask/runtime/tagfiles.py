"""The papers' tag files: a line an image, `IMAGE INDEX INDEX ...`, classes counted from 0."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tagmask.errors import InputError
from tagmask.runtime.lines import lines_kept

__all__ = ["check_names", "read_tags", "tag_lines"]


def read_tags(path: Path, classes: int) -> Mapping[str, tuple[int, ...]]:
    """Tags by image name (without folder and ending), in the order of each line.

    Args:
        path: the file.
        classes: how many classes there are; indices run from 0.

    Raises:
        InputError: a file that cannot be read, or a line that is no image and class numbers, names a class
            twice or one that is not there, or an image twice.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        reason = "it is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise InputError(
            f"tags file {path} cannot be read: {reason}; give lines such as '2007_000032 0 14'"
        ) from error
    found: dict[str, tuple[int, ...]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, *fields = line.split()
        tags = tuple(_class(field, path, number, classes) for field in fields)
        if len(set(tags)) < len(tags):
            raise InputError(f"line {number} of {path} names a class twice: {line.strip()!r}")
        if name in found:
            raise InputError(f"line {number} of {path} is the second for image {name!r}; keep one")
        found[name] = tags
    return found


def _class(field: str, path: Path, line: int, classes: int) -> int:
    tag = int(field) if field.isdecimal() and len(field) < _DIGITS else -1
    if not 0 <= tag < classes:
        raise InputError(
            f"line {line} of {path} holds {field!r}; wanted are class numbers from 0 to {classes - 1}"
        )
    return tag


_DIGITS = 9
"""A number as long as this is no class."""


def check_names(names: Sequence[str]) -> None:
    """Refuse image names that the format cannot hold, before any work is done.

    Raises:
        InputError: a name with a blank, one that is no text, or the same name twice.
    """
    seen: set[str] = set()
    for name in names:
        if name.split() != [name] or not name.isprintable():
            raise InputError(
                f"the image name {name!r} cannot stand in a tags file, which ends names at a blank; "
                "rename the file, or keep tags as JSON lines (--format json)"
            )
        if name in seen:
            raise InputError(
                f"two images are called {name!r}, and a tags file knows images by name alone; "
                "tag one folder at a time, or keep tags as JSON lines (--format json)"
            )
        seen.add(name)


@contextmanager
def tag_lines(path: Path) -> Iterator[Callable[[str, Sequence[int]], None]]:
    """Give a function that writes one image's tags; the old file is replaced when all are there.

    Raises:
        OutputError: the file cannot be written.
        InputError: a name that `check_names` refuses.
    """
    with lines_kept(path) as write:

        def keep(name: str, tags: Sequence[int]) -> None:
            check_names([name])
            write(" ".join([name, *map(str, tags)]))

        yield keep
