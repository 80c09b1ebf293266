"""The papers' tag files: one line per image, `IMAGE INDEX INDEX ...`, class indices from 0."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tagmask.data.lists import read_tags
from tagmask.errors import InputError
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.lines import atomic_lines

__all__ = ["check_names", "read_tags", "tag_lines", "tags_of"]


def check_names(names: Sequence[str]) -> None:
    """Refuse image names that a tag file cannot hold, before any work is done.

    Raises:
        InputError: a name with whitespace or unprintable characters, or the same name twice.
    """
    seen: set[str] = set()
    for name in names:
        if name.split() != [name] or not name.isprintable():
            raise InputError(
                f"Tag files cannot hold the image name {name!r}: it has whitespace or is not printable. "
                "Rename the file, or write JSON lines (--format json)."
            )
        if name in seen:
            raise InputError(
                f"Two images are named {name!r}, but tag files identify images by name. "
                "Tag one folder at a time, or write JSON lines (--format json)."
            )
        seen.add(name)


@contextmanager
def tag_lines(path: Path) -> Iterator[Callable[[str, Sequence[int]], None]]:
    """Open a tag file for writing; yield a function that writes one image's tags.

    The old file is replaced when the block ends without an error.

    Raises:
        OutputError: the file cannot be written.
        InputError: a name that `check_names` refuses.
    """
    with atomic_lines(path) as write:

        def write_tags(name: str, tags: Sequence[int]) -> None:
            check_names([name])
            write(" ".join([name, *map(str, tags)]))

        yield write_tags


def tags_of(image: FoundImage, tags: Mapping[str, Sequence[int]]) -> Sequence[int]:
    """Look up an image's tags by its file name without folder and extension.

    Raises:
        InputError: there are no tags for the image.
    """
    if image.path.stem not in tags:
        raise InputError(f"No tags given for the image {image.path.stem!r}. Add a line for it.")
    return tags[image.path.stem]
