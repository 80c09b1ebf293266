"""Read the values that `torch.save` wrote without running code, in both of its formats.

The formats:

    zip      archive/data.pkl, which refers to the records archive/data/KEY
    older    five pickles: a magic number, a version, the machine, the values, the keys of the storages; then
             for each storage its number of values and its bytes
"""

import pickle
import struct
import sys
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch

from tagmask.clip.stored import DataFile, StoredTensor
from tagmask.clip.tensor_pickle import DTYPES, OtherTensor, Record, TensorUnpickler, View
from tagmask.clip.zip_records import GET_AGAIN, MAX_PICKLE_BYTES, Records, open_zip
from tagmask.errors import WeightsError

__all__ = ["Storages", "read_legacy", "read_saved", "read_zipped"]

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_VERSION: Final = 1001
_MAX_STORAGES: Final = 100_000


class Storages(NamedTuple):
    """Where the values of a file are."""

    file: DataFile
    starts: dict[str, int]
    """The offset of each record, by its key."""

    def stored(self, view: View) -> StoredTensor:
        """The tensor that a view describes."""
        return view.stored(self.file, self.starts[view.record.key])


def read_saved(path: Path) -> object:
    """Read a zip of torch.save whole, with a copy of every tensor; containers may be nested.

    Raises:
        WeightsError: a damaged record, tensors larger than the file, or one that is not plain.
        Exception: any error of the zip or the pickle reader on damaged bytes or other globals.
    """
    with open_zip(path) as archive:
        root = next((name.split("/")[0] for name in archive.namelist() if name.endswith("/data.pkl")), "")
        value, storages = read_zipped(path, archive, root)
    left = 2 * path.stat().st_size

    copies: dict[int, object] = {}  # of containers, which may be in many others

    def read(value: object) -> object:
        nonlocal left
        if isinstance(value, OtherTensor):
            raise WeightsError(f"{path} holds a tensor that is {value.kind}, not a plain one.")
        if isinstance(value, View):
            left -= value.nbytes
            if left < 0:
                raise WeightsError(f"{path} was tampered with: its tensors claim more bytes than it has.")
            return storages.stored(value).read()
        if not isinstance(value, dict | list | tuple):
            return value
        if id(value) not in copies:
            if isinstance(value, dict):
                copies[id(value)] = {key: read(item) for key, item in value.items()}
            else:
                copies[id(value)] = type(value)(map(read, value))
        return copies[id(value)]

    return read(value)


def read_zipped(path: Path, archive: zipfile.ZipFile, root: str) -> tuple[object, Storages]:
    """Read a zip of torch.save.

    Args:
        path: the file.
        archive: the same, open.
        root: the folder in the archive that holds `data.pkl`.

    Returns:
        The saved value, with a `View` or an `OtherTensor` for each tensor; and where the views' values are.

    Raises:
        WeightsError: a damaged record, or one that is missing or of another byte order.
        Exception: any error of the pickle reader on damaged bytes or other globals.
    """
    records = Records(path, archive, root)
    records.check_byte_order()
    unpickler = _ZipUnpickler(BytesIO(records.pickled()), path, records)
    return unpickler.load(), Storages(records.file, unpickler.starts)


def read_legacy(path: Path) -> tuple[object, Storages]:
    """Read a file of torch.save's older format; as `read_zipped`.

    Raises:
        WeightsError: the file ends early, or has another byte order.
        Exception: as `read_zipped`.
    """
    with path.open("rb") as file:
        stream = BytesIO(file.read(MAX_PICKLE_BYTES))
    unpickler = _LegacyUnpickler(stream, path)
    if unpickler.load() != _MAGIC or unpickler.load() != _VERSION:
        raise pickle.UnpicklingError("not a file of torch.save")
    machine = unpickler.load()
    if not isinstance(machine, dict) or machine.get("little_endian") is not (sys.byteorder == "little"):
        raise WeightsError(f"{path} has another byte order. Convert it on the machine that wrote it.")
    value, keys = unpickler.load(), unpickler.load()
    if not isinstance(keys, list) or len(keys) > _MAX_STORAGES:
        raise pickle.UnpicklingError("no list of storages")
    return value, _storages_behind(path, stream.tell(), keys, unpickler.records)


def _storages_behind(path: Path, at: int, keys: list[object], records: dict[str, Record]) -> Storages:
    """Find the storages that follow the pickles, in the order of their keys."""
    file = DataFile(path)
    starts: dict[str, int] = {}
    for key in keys:
        record = records.get(key) if isinstance(key, str) else None
        if record is None or record.key in starts:
            raise pickle.UnpicklingError("an unknown or repeated storage")
        (values,) = struct.unpack("<q", file.bytes(at, 8))
        starts[record.key] = at + 8
        at += 8 + record.nbytes
        if values * record.dtype.itemsize != record.nbytes or at > file.size:
            raise WeightsError(
                f"{path} is damaged or incomplete: a storage ends after the file does. {GET_AGAIN}"
            )
    if records.keys() - starts.keys():
        raise WeightsError(f"{path} is damaged: it lacks some of its storages. {GET_AGAIN}")
    return Storages(file, starts)


class _SavedUnpickler(TensorUnpickler):
    """Build what torch.save wrote: tensors, and inert objects for the usual values beside them."""

    def other_class(self, full: str) -> Any:  # noqa: ANN401 - fixed by pickle
        rebuild = self.rebuild_tensor(full)
        if rebuild is not None:
            return rebuild
        if full in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            return lambda value, *_: value
        if full.startswith("torch.") and full.removeprefix("torch.") in DTYPES:
            return DTYPES[full.removeprefix("torch.")]
        if full == "torch.storage.UntypedStorage":
            return torch.uint8
        made = self.inert(full)
        if made is None:
            raise pickle.UnpicklingError(full)
        return made


class _ZipUnpickler(_SavedUnpickler):
    def __init__(self, file: BytesIO, path: Path, records: Records) -> None:
        super().__init__(file, path)
        self._records = records
        self.starts: dict[str, int] = {}

    def record(self, key: str, dtype: torch.dtype, values: int) -> Record:
        start, nbytes = self._records.span(f"data/{key}")
        if values * dtype.itemsize > nbytes:
            raise WeightsError(
                f"{self.path} is damaged: a record of {nbytes} bytes should hold {values} values. {GET_AGAIN}"
            )
        self.starts[key] = start
        return Record(key, dtype, nbytes, start)


class _LegacyUnpickler(_SavedUnpickler):
    def __init__(self, file: BytesIO, path: Path) -> None:
        super().__init__(file, path)
        self.records: dict[str, Record] = {}

    def record(self, key: str, dtype: torch.dtype, values: int) -> Record:
        if values < 0:
            raise pickle.UnpicklingError("a storage with a negative size")
        made = Record(key, dtype, values * dtype.itemsize, None)
        if self.records.setdefault(key, made) != made:
            raise pickle.UnpicklingError("a storage with two sizes")
        return made
