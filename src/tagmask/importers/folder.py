"""Read a folder of index masks with `classes.txt`, the layout of `tagmask export --to folder`."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from tagmask.errors import ImageError, InputError
from tagmask.importers.class_map import ClassMap
from tagmask.importers.foreign import (
    ForeignImage,
    ImportOptions,
    check_png_size,
    entry_of,
    list_of,
    read_json,
    text_of,
    whole_of,
)
from tagmask.importers.source import Source, png_limit
from tagmask.masks import IndexMap, read_index_png
from tagmask.reading import TEXT_LIMIT
from tagmask.types import Size

__all__ = ["read_folder"]


def read_folder(source: Source, classes: ClassMap, options: ImportOptions) -> Iterator[ForeignImage]:
    """Read `masks/NAME.png`: indices into `classes.txt` or `classes.json`.

    255, of 16 bits 65535, is no class, unless `classes.json` states another value.

    Raises:
        InputError: there are no masks, or no names of the classes.
    """
    for root in _roots(source):
        names, ignore = _classes(source, root)
        prefix = f"{root}masks/"
        masks = [name for name in source.named(".png") if name.startswith(prefix)]
        if not masks:
            raise InputError(f"{source.path} has no masks, {prefix}NAME.png.")
        for name in masks:
            called = name[len(prefix) : -len(".png")]
            yield ForeignImage((called,), partial(_labels, source, name, names, ignore, classes))


def _roots(source: Source) -> list[str]:
    """Return the folders that name their classes, with their slash: the uppermost, or one for each split."""
    found = [name for name in source.names if name.split("/")[-1] in ("classes.txt", "classes.json")]
    if source.is_file or not found:
        raise InputError(
            f"{source.path} has no classes.txt. Give a folder with classes.txt, one name per line, and masks."
        )
    depth = min(name.count("/") for name in found)
    return sorted({name.rpartition("classes.")[0] for name in found if name.count("/") == depth})


def _classes(source: Source, root: str) -> tuple[list[str], int | None]:
    """Return the name of each value, and the value of no class where it is stated."""
    where = f"{root}classes.txt"
    if where in source.names:
        names = [line.strip() for line in source.text(where).splitlines()]
        if not names or not all(names):
            raise InputError(f"{source.where(where)} is empty, or has an empty line.")
        return names, None
    where = f"{root}classes.json"
    try:
        described = entry_of(read_json(source, where, TEXT_LIMIT), "it")
        entries = [entry_of(entry, "a class") for entry in list_of(described, "classes", "it")]
        names_of = {
            whole_of(entry, "index", "a class"): text_of(entry, "name", "a class") for entry in entries
        }
        if not names_of or sorted(names_of) != list(range(len(entries))):
            raise InputError("it does not name each index from 0 once")
        ignore = whole_of(described, "ignore_index", "it") if "ignore_index" in described else None
    except InputError as error:
        raise InputError(f"{source.where(where)} does not name the classes: {error}.") from error
    return [names_of[index] for index in range(len(names_of))], ignore


def _labels(
    source: Source, name: str, names: list[str], ignore: int | None, classes: ClassMap, size: Size
) -> IndexMap:
    data = source.read(name, png_limit(size[0] * size[1]))
    check_png_size(data, source.where(name), size)
    try:
        values = read_index_png(data)
    except ImageError as error:
        raise InputError(f"{source.where(name)} holds no class indices: {error}") from error
    present = np.flatnonzero(np.bincount(values.ravel()))
    table = np.zeros(65536, classes.dtype)
    for value in present.tolist():
        if value == (np.iinfo(values.dtype).max if ignore is None else ignore):
            table[value] = classes.ignore_index
        elif value < len(names):
            table[value] = classes.label(names[value])
        else:
            raise InputError(f"{source.where(name)} has the value {value}, which classes.txt does not name")
    labels: IndexMap = table[values]
    return labels
