"""Names of images: as keys of a database, and as names of outputs."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from tagmask.runtime.folders import FoundImage, fold, output_names, root_of

__all__ = ["free_name", "image_keys", "key_text", "text_names"]

_BROKEN = re.compile("[\udc80-\udcff]")


def image_keys(found: Sequence[FoundImage], known: Callable[[], dict[str, Path]] = dict) -> list[str]:
    r"""What each image is called in a run: the name of the folder that was given, and the path below it.

    Keys do not hold where that folder lies, so that a run goes on after its images were moved together with
    their folder, and so that machines with different mounts can share the work. Folders of one name are
    numbered (`photos-2`) in the order in which they are given.

    Args:
        found: as `find_images` returns them.
        known: gives the folder behind each label that a run has already. A folder keeps its label; a label
            whose folder no longer exists is given to the folder of that name.

    Returns:
        One key per image, in order. Always text: bytes that are none become `\xNN`, a backslash is doubled.

    Example:
        >>> image_keys([FoundImage(Path("/a/photos/x.jpg"), PurePosixPath("x.jpg")),
        ...             FoundImage(Path("/b/photos/x.jpg"), PurePosixPath("x.jpg"))])
        ['photos/x.jpg', 'photos-2/x.jpg']
    """
    given = known() if found else {}
    by_root = {str(root): label for label, root in given.items()}
    roots = [root_of(image) for image in found]
    labels = {root: by_root.get(root) for root in roots}
    taken = {label for label in labels.values() if label is not None}
    for root in [root for root, label in labels.items() if label is None]:
        name = label = key_text(Path(root).name) or "root"
        number = 1
        while label in taken or (label in given and given[label].exists()):
            number += 1
            label = f"{name}-{number}"
        labels[root] = label
        taken.add(label)
    return [f"{labels[root]}/{key_text(str(image.name))}" for root, image in zip(roots, found, strict=True)]


def key_text(name: str) -> str:
    r"""A name as keys hold it: always text, and different for different names.

    Example:
        >>> key_text("a\udce9"), key_text("a\\xe9")
        ('a\\xe9', 'a\\\\xe9')
    """
    doubled = name.replace("\\", "\\\\")
    return _BROKEN.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", doubled)


def text_names(found: Sequence[FoundImage]) -> list[PurePosixPath]:
    """Names of the images' outputs, as `output_names` gives them, which are always text.

    Bytes that are no text become `%NN`: the same name then stands in the database, in exported JSON and
    on the disk.
    """

    def as_text(name: str) -> str:
        return _BROKEN.sub(lambda broken: f"%{ord(broken[0]) - 0xDC00:02X}", name)

    return output_names(
        [FoundImage(image.path, PurePosixPath(as_text(str(image.name)))) for image in found]
        if any(_BROKEN.search(str(image.name)) for image in found)
        else found
    )


def free_name(wanted: str, taken: set[str]) -> str:
    """The name itself, or with the first number that makes it free; it is then taken.

    Args:
        wanted: the name.
        taken: folded names that are in use; the name returned is added.

    Example:
        >>> taken = {"a", "a-2"}
        >>> free_name("A", taken), sorted(taken)
        ('A-3', ['a', 'a-2', 'a-3'])
    """
    name, number = wanted, 1
    while fold(name) in taken:
        number += 1
        name = f"{wanted}-{number}"
    taken.add(fold(name))
    return name
