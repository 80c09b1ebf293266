"""The papers' tag files: a line an image, `IMAGE INDEX INDEX ...`, classes counted from 0."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tagmask.data.lists import read_tags
from tagmask.errors import InputError
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.lines import atomic_lines

__all__ = ["check_names", "read_tags", "tag_lines", "tags_of"]


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
    with atomic_lines(path) as write:

        def keep(name: str, tags: Sequence[int]) -> None:
            check_names([name])
            write(" ".join([name, *map(str, tags)]))

        yield keep


def tags_of(image: FoundImage, tags: Mapping[str, Sequence[int]]) -> Sequence[int]:
    """An image's tags, by its name without folder and ending.

    Raises:
        InputError: the tags have no line for it.
    """
    if image.path.stem not in tags:
        raise InputError(f"no tags are given for {image.path.stem!r}; add a line for it")
    return tags[image.path.stem]
