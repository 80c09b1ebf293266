"""Read files of class activation maps (CAMs), which may come from anywhere.

    NAME.npz   one array per class, named by its number: numpy.savez_compressed(path, **{str(c): map, ...})
    NAME.npy   one pickled dict from class to map, as MCTformer's program writes it
    NAME.npy   one pickled dict of "keys", the classes, and "attn_highres", a map of each (k, h, w), as the
               program of CLIP-ES writes it; other arrays in it, such as maps before refinement, are ignored

Nothing in a file is run, and nothing is believed before it is checked: types come from a fixed list, an array
takes no more bytes than the file holds for it, and all that is read is bounded by the image's size. Only one
map is in memory at a time.
"""

import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from jaxtyping import Float32

from tagmask.array_files import array_header, check_archive, check_compression
from tagmask.errors import InputError, ShapeError
from tagmask.reading import open_regular
from tagmask.types import Size
from tagmask.weak.pickle_reader import Content, PickledArray, PickleError, read_pickle

__all__ = ["CamFile", "Cams", "read_cams"]

Cams = Mapping[int, Float32[np.ndarray, "h w"]]
"""Activation maps by class, in ascending order or in that of a file's keys: of equal ones the first wins."""

_LARGEST, _VALUES, _VALUES_PER_PIXEL = 1 << 25, 1 << 26, 16
"""Most values of a map where the image's size is not known; of all maps; and of all maps more per pixel."""
_TYPES: Final = {code: np.dtype(code) for code in ("<f2", "<f4", "<f8", ">f2", ">f4", ">f8")}
_KEY_TYPES: Final = {
    code: np.dtype(code)
    for code in (
        "i1",
        "u1",
        *(f"{order}{kind}{size}" for order in "<>" for kind in "iu" for size in (2, 4, 8)),
    )
}
_ITEMS: Final = {**_TYPES, **_KEY_TYPES}
_KEYS, _STACK = "keys", "attn_highres"
"""What CLIP-ES's program calls the classes and their maps."""
_CLASS: Final = re.compile(r"(0|[1-9][0-9]{0,8})\.npy")
_STEPS, _STEPS_PER_CLASS = 10_000, 100
"""Most instructions of a pickle; a map takes about 50."""
_DAMAGE: Final = (
    OSError, ValueError, OverflowError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile
)  # fmt: skip


@dataclass(frozen=True)
class _Stored:
    """A map in the file."""

    type: str
    shape: tuple[int, ...]
    fortran: bool
    read: Callable[[BinaryIO], bytes]
    """Reads its bytes from the open file."""


class CamFile(Cams):
    """The maps of a file. Each is read when it is asked for, and not kept.

    Raises:
        InputError: when a map is asked for and the file has changed since it was opened.
    """

    def __init__(self, path: Path, stored: Mapping[int, _Stored]) -> None:
        self._path, self.stored = path, dict(stored)

    def __getitem__(self, key: int) -> Float32[np.ndarray, "h w"]:
        stored = self.stored[key]
        with _errors(self._path), open_regular(self._path) as file:
            values = np.frombuffer(stored.read(file), _TYPES[stored.type])
        with np.errstate(over="ignore"):  # becomes infinite
            cam = values.astype(np.float32, copy=False).reshape(
                stored.shape, order="F" if stored.fortran else "C"
            )
        if not np.isfinite(cam).all():
            raise InputError(
                f"{self._path}: the map of class {key} has NaN or infinite values. Create it again."
            )
        return cam

    def __iter__(self) -> Iterator[int]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def read_cams(path: Path, classes: int, size: Size | None = None) -> CamFile:
    """Open a file of activation maps, and check all of it.

    Args:
        path: a `.npz` or `.npy` file; its content decides which.
        classes: number of classes, without the background.
        size: the image's (h, w), which every map must have. None: not known, and maps may have at most 33
            million values.

    Raises:
        InputError: a file that is absent, damaged, holds anything but maps by class, or tries to run code; a
            class out of range; a map that is not a 2-D float array or has NaN or infinite values.
        ShapeError: a map of another size.
    """
    with _errors(path), open_regular(path) as file:
        length = os.fstat(file.fileno()).st_size
        head = file.read(6)
        if head == b"\x93NUMPY":
            found = _in_pickle(file, length, classes)
        elif head[:4] == b"PK\3\4":
            found = _in_zip(file)
        else:
            raise ValueError("it is neither a .npz nor a .npy file")
    cams = CamFile(path, dict(_checked(path, key, value, classes, size) for key, value in found))
    _check_total(path, [math.prod(stored.shape) for stored in cams.stored.values()], size)
    for key in cams:
        cams[key]  # raises what is wrong with it
    return cams


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(
            f"There is no file {path}. Create the activation maps of this image, or remove the image."
        ) from error
    except PickleError as error:
        raise InputError(f"Refused {path}: {error}. Give a dict of arrays, saved by numpy.save.") from error
    except InputError:
        raise
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} cannot be read: {reason}. Save it again with numpy.savez_compressed."
        ) from error


def _checked(path: Path, key: object, value: object, classes: int, size: Size | None) -> tuple[int, _Stored]:
    if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < classes:
        raise InputError(f"{path} has a map for class {key!r}. Expected classes from 0 to {classes - 1}.")
    if not isinstance(value, _Stored):
        raise InputError(f"{path}: the map of class {key} is no array. Expected floats (h, w).")
    if len(value.shape) != 2 or 0 in value.shape or value.type not in _TYPES:
        shown = f"{value.shape} of {value.type}"
        raise InputError(f"{path}: the map of class {key} is {shown}. Expected floats (h, w).")
    if size is not None and value.shape != size:
        raise ShapeError(
            f"{path}: the map of class {key} is {value.shape}, but the image is {size} (h, w). "
            "Create maps at the image's size."
        )
    return key, value


def _check_total(path: Path, counts: Sequence[int], size: Size | None) -> None:
    """Refuse more values than an image of that size can need."""
    most = _VALUES + (_VALUES_PER_PIXEL * size[0] * size[1] if size else 0)
    if sum(counts) > most or (size is None and max(counts, default=0) > _LARGEST):
        raise InputError(
            f"{path} has {len(counts)} maps of {sum(counts):,} values, which is too much. "
            "Leave out classes that the image does not have, or reduce the image."
        )


# -- .npy ----------------------------------------------------------------------------------------------------


def _in_pickle(file: BinaryIO, length: int, classes: int) -> list[tuple[object, object]]:
    """The maps of a dict, and whatever else is in it."""
    file.seek(0)
    kind, shape, _ = array_header(file.read)
    if shape != () or kind not in ("|O", "O"):
        name = _TYPES[kind].name if kind in _TYPES else kind
        raise PickleError(f"it holds an array of shape {shape} and type {name}")
    content = read_pickle(file, length, _STEPS + _STEPS_PER_CLASS * classes)
    if not isinstance(content, dict):
        raise PickleError(f"it holds a {type(content).__name__}. Expected a dict from class to map (h, w)")
    if _KEYS in content:
        found = _stacked(file, content, classes)
    else:
        found = _by_class((key, _stored(value)) for key, value in content.items())
    # Maps may share their bytes, so that a small file has many large ones.
    if sum(_bytes(each) for _, each in found if isinstance(each, _Stored)) > length:
        raise PickleError("its maps have more values than the file")
    return found


def _by_class(found: Iterable[tuple[object, object]]) -> list[tuple[object, object]]:
    """Maps in the order of their classes; what has another name comes last."""
    return sorted(found, key=lambda item: item[0] if isinstance(item[0], int) else math.inf)


def _stacked(file: BinaryIO, content: Mapping[object, object], classes: int) -> list[tuple[object, object]]:
    """The maps of CLIP-ES's dict, in the order of its keys."""
    array = content.get(_STACK)
    keys, stack = _stored(content[_KEYS]), _stored(array)
    if not isinstance(keys, _Stored) or keys.type not in _KEY_TYPES or len(keys.shape) != 1:
        raise PickleError(f"its {_KEYS!r} are no list of whole numbers")
    if not isinstance(array, PickledArray) or not isinstance(stack, _Stored) or len(stack.shape) != 3:
        raise PickleError(f"it has {_KEYS!r}, but no array {_STACK!r} of maps (k, h, w)")
    if not keys.shape[0] == stack.shape[0] <= classes:
        raise PickleError(
            f"it has {keys.shape[0]} {_KEYS} and {stack.shape[0]} maps. Expected a map for each, and at most "
            f"{classes}"
        )
    numbers = np.frombuffer(keys.read(file), _KEY_TYPES[keys.type]).tolist()
    if len(set(numbers)) < len(numbers):
        raise PickleError("it has two maps of one class")
    return [
        (key, _Stored(stack.type, stack.shape[1:], False, partial(_map_bytes, array.content, stack, row)))
        for row, key in enumerate(numbers)
    ]


def _map_bytes(content: object, stack: _Stored, row: int, file: BinaryIO) -> bytes:
    """One map of several; alone where its bytes stand together in the file."""
    size = _bytes(stack)
    if isinstance(content, Content) and content.size == size and not (content.utf8 or stack.fortran):
        count = size // stack.shape[0]
        return content.part(file, row * count, count)
    values = np.frombuffer(stack.read(file), _ITEMS[stack.type])
    data: bytes = values.reshape(stack.shape, order="F" if stack.fortran else "C")[row].tobytes()
    return data


def _stored(value: object) -> object:
    """An array of a pickle; anything else as it is."""
    if not isinstance(value, PickledArray) or value.type is None:
        return value
    stored = _Stored(str(value.type), value.shape, value.fortran, _nothing)
    content = value.content
    if stored.type not in _ITEMS:
        return stored
    if not isinstance(content, Content) or not content.size // 2 <= _bytes(stored) <= content.size:
        raise PickleError(f"an array of shape {value.shape} has other content than its shape needs")
    return replace(stored, read=partial(_pickled_bytes, content, _bytes(stored)))


def _nothing(file: BinaryIO) -> bytes:
    """The content of an array whose type is refused."""
    return b""


def _bytes(stored: _Stored) -> int:
    return math.prod(stored.shape) * _ITEMS[stored.type].itemsize if stored.type in _ITEMS else 0


def _pickled_bytes(content: Content, size: int, file: BinaryIO) -> bytes:
    data = content.read(file)
    if len(data) != size:
        raise PickleError("an array has other content than its shape needs")
    return data


# -- .npz ----------------------------------------------------------------------------------------------------


def _in_zip(file: BinaryIO) -> list[tuple[object, object]]:
    check_archive(file)
    found: list[tuple[object, object]] = []
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            check_compression(info)
            with archive.open(info) as member:
                kind, shape, fortran = array_header(member.read)
                skipped = member.tell()
            stored = _Stored(kind, shape, fortran, partial(_zipped_bytes, info.filename, skipped))
            if kind in _TYPES and info.file_size != skipped + _bytes(stored):
                raise ValueError(f"{info.filename[:40]!r} has other content than its shape {shape} needs")
            name = _CLASS.fullmatch(info.filename)
            found.append((int(name[1]) if name else info.filename[:40], stored))
    if len({key for key, _ in found}) < len(found):
        raise ValueError("it has two maps of one class")
    return _by_class(found)


def _zipped_bytes(name: str, skipped: int, file: BinaryIO) -> bytes:
    with zipfile.ZipFile(file) as archive, archive.open(name) as member:
        member.read(skipped)
        data = member.read(archive.getinfo(name).file_size - skipped)
        if member.read(1):  # the checksum is compared at the end
            raise ValueError(f"{name!r} is longer than its entry says")
        return data
