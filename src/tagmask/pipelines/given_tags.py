"""Read the tags that users give with images."""

from collections.abc import Iterable, Sequence

import numpy as np

from tagmask.errors import InputError

__all__ = ["tag_list", "tag_lists"]


def tag_list(tags: object) -> Sequence[int] | None:
    """The tags of one image as Python ints; NumPy integers are accepted."""
    if tags is None:
        return None
    if isinstance(tags, str) or not isinstance(tags, Iterable) or getattr(tags, "ndim", 1) != 1:
        raise InputError(f"Invalid tags {tags!r}. Give a list of class numbers, as in tags=[0, 5].")
    numbers: list[int] = []
    for tag in tags:
        if isinstance(tag, bool) or not isinstance(tag, int | np.integer):
            raise InputError(f"Invalid tag {tag!r}. Give class numbers, as in tags=[0, 5].")
        numbers.append(int(tag))
    return numbers


def tag_lists(tags: object, images: int) -> Sequence[Sequence[int] | None]:
    """One list of tags per image; None for images without given tags."""
    if tags is None:
        return [None] * images
    if isinstance(tags, str) or not isinstance(tags, Sequence) or len(tags) != images:
        raise InputError(
            f"Invalid tags {tags!r} for {images} images. Give one list per image, as in tags=[[0, 5], [2]]."
        )
    return [tag_list(each) for each in tags]
