"""The papers' tag files: one line per image, `IMAGE INDEX INDEX ...`, class indices from 0.

IMAGE is the image's whole relative name without its ending (`train/1`), or, as in the papers' own files, the
file's name alone (`1`).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tagmask.data.lists import line_names, read_tags
from tagmask.errors import InputError
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.lines import atomic_lines

__all__ = ["check_names", "check_tags", "names_to_write", "read_tags", "tag_lines", "tagged", "tags_of"]


def names_to_write(images: Sequence[FoundImage]) -> list[str]:
    """Return the name of each image in a tag file that is about to be written.

    These are the files' names without endings, as in the papers' files; whole relative names if two files
    have the same name.

    Raises:
        InputError: names that `check_names` refuses.
    """
    names = [image.path.stem for image in images]
    if len(set(names)) < len(names):
        names = [_whole_name(image) for image in images]
    check_names(names)
    return names


def check_names(names: Sequence[str]) -> None:
    """Refuse image names that a tag file cannot hold, before any work is done.

    Raises:
        InputError: a name with whitespace or unprintable characters, or the same name twice.
    """
    for name in names:
        if name.split() != [name] or not name.isprintable():
            raise InputError(
                f"Tag files cannot hold the image name {name!r}: it has whitespace or is not printable. "
                "Rename the file, or write JSON lines (--format json)."
            )
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise InputError(
            f"Two images are named {name!r}, but tag files identify images by name. "
            "Tag one folder at a time, or write JSON lines (--format json)."
        )


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


def check_tags(images: Sequence[FoundImage], tags: Mapping[str, Sequence[int]]) -> None:
    """Refuse tags that may belong to two of the images. Call it once, before `tags_of`.

    Args:
        images: the whole listing.
        tags: as `read_tags` returns them.

    Raises:
        InputError: naming two images that one line may mean.
    """
    _lines(images, tags)


def tagged(
    images: Sequence[FoundImage], tags: Mapping[str, Sequence[int]]
) -> list[tuple[FoundImage, str, Sequence[int]]]:
    """Return the images that have a line, with its name and its tags.

    Raises:
        InputError: naming two images that one line may mean.
    """
    lines = zip(images, _lines(images, tags), strict=True)
    return [(image, line, tags[line]) for image, line in lines if line is not None]


def tags_of(image: FoundImage, tags: Mapping[str, Sequence[int]]) -> Sequence[int]:
    """Look up an image's tags by its whole relative name, else by its file's name, both without ending.

    Raises:
        InputError: there are no tags for the image.
    """
    whole = _whole_name(image)
    for name in (whole, image.path.stem):
        if name in tags:
            return tags[name]
    raise InputError(f"No tags given for the image {whole!r}. Add a line for it.")


def _lines(images: Sequence[FoundImage], tags: Mapping[str, Sequence[int]]) -> list[str | None]:
    return line_names([_whole_name(image) for image in images], [image.path for image in images], tags)


def _whole_name(image: FoundImage) -> str:
    return str(image.name.with_suffix(""))
