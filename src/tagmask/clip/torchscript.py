"""OpenAI's archives, read as data: a TorchScript zip -> named tensors, with no code run.

data.pkl   a tree of modules; each tensor in it is (record, offset, size, stride)
data/N     the bytes of record N, stored plain, so that they can be mapped instead of read
code/      the modules' sources; read as text, to tell parameters and buffers from other tensors
"""

import pickle
import pickletools
import re
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

import torch
from torch import Tensor, UntypedStorage

from tagmask.errors import WeightsError

__all__ = ["calls_exact_gelu", "read_torchscript", "refusal"]

_STORAGES: Final[Mapping[str, torch.dtype]] = MappingProxyType(
    {
        "BFloat16Storage": torch.bfloat16,
        "BoolStorage": torch.bool,
        "ByteStorage": torch.uint8,
        "CharStorage": torch.int8,
        "DoubleStorage": torch.float64,
        "FloatStorage": torch.float32,
        "HalfStorage": torch.float16,
        "IntStorage": torch.int32,
        "LongStorage": torch.int64,
        "ShortStorage": torch.int16,
    }
)
_VALUES: Final[Mapping[str, type]] = MappingProxyType(
    {"builtins.complex": complex, "collections.OrderedDict": OrderedDict}
)
_WRAPPERS: Final = frozenset(
    {
        "torch._utils._rebuild_parameter",
        "torch.device",
        "torch.jit._pickle.build_boollist",
        "torch.jit._pickle.build_doublelist",
        "torch.jit._pickle.build_intlist",
        "torch.jit._pickle.build_tensorlist",
        "torch.jit._pickle.restore_type_tag",
    }
)
"""Functions that say what their first argument is; here they give that argument."""

# Far above any real archive; they bound what a crafted one can make the reader do.
_LARGEST_TEXT: Final = 1 << 26
_MOST_MODULES: Final = 10_000
_LONGEST_NAME: Final = 1_000


def read_torchscript(path: Path, root: str) -> dict[str, Tensor]:
    """Read what `torch.jit.load(path).state_dict()` would give, without loading any code.

    Args:
        path: a TorchScript zip archive.
        root: the folder in the archive that holds `data.pkl`.

    Returns:
        Parameters and buffers by dotted name, as views of the file (mapped copy-on-write): they cost
        no memory until they are touched. Copy those that must outlive a change of the file.

    Raises:
        WeightsError: a global that is not tensor data, a tensor outside its record, or a record
            that is missing, compressed or of the other byte order.
        Exception: whatever the zip and pickle readers make of damaged bytes.
    """
    with zipfile.ZipFile(path) as archive:
        records = _Records(path, archive, root)
        order = records.text("byteorder") if "byteorder" in records.names() else sys.byteorder
        if order != sys.byteorder:
            raise WeightsError(f"{path} was written {order}-endian; convert it on the machine that wrote it.")
        top = _Unpickler(records).load()
        return _flatten(path, top, _stored_names(records))


def calls_exact_gelu(path: Path, root: str) -> bool:
    """Whether the modules' sources call GELU itself; OpenAI's own write QuickGELU out as products.

    Args:
        path: as for `read_torchscript`, which has read it without complaint.
        root: as there.
    """
    with zipfile.ZipFile(path) as archive:
        records = _Records(path, archive, root)
        sources = [name for name in records.names() if name.startswith("code/") and name.endswith(".py")]
        return any("torch.gelu(" in records.text(name) for name in sources)


def refusal(path: Path, names: str) -> WeightsError:
    """Say which globals of a pickle were not looked up, and how to get the tensors without them."""
    return WeightsError(
        f"{path} is a pickle that asks for {names}; running it could execute code, so it was refused. "
        "Load it where you trust it and save its tensors with safetensors.torch.save_file."
    )


class _Records:
    """The records of one archive: small ones as bytes, large ones as mapped storage."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, root: str) -> None:
        self.path = path
        self._archive = archive
        self._infos = {
            info.filename.removeprefix(f"{root}/"): info
            for info in archive.infolist()
            if info.filename.startswith(f"{root}/")
        }
        self._size = path.stat().st_size
        whole = torch.from_file(str(path), shared=False, size=self._size, dtype=torch.uint8)
        self._mapped = whole.untyped_storage()

    def names(self) -> Iterable[str]:
        return self._infos.keys()

    def bytes(self, name: str) -> bytes:
        info = self._info(name)
        if info.file_size > _LARGEST_TEXT:
            raise WeightsError(
                f"{self.path}: its record {name} claims {info.file_size} bytes; not a CLIP archive."
            )
        return self._archive.read(info)

    def text(self, name: str) -> str:
        return self.bytes(name).decode()

    def storage(self, name: str) -> UntypedStorage:
        """Map the bytes of a record; the file is the memory."""
        info = self._info(name)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise WeightsError(
                f"{self.path}: its record {name} is compressed or encrypted, so the archive was packed again "
                "after it was written. Get the original file."
            )
        start = self._start(info)
        if start + info.file_size > self._size:
            raise WeightsError(
                f"{self.path}: its record {name} ends after the file does. Get the file again."
            )
        if info.file_size == 0:
            return torch.empty(0).untyped_storage()
        record: UntypedStorage = self._mapped[start : start + info.file_size]
        # The writer aligns records to 64 bytes; an archive stored again by another tool may not.
        return record if start % 8 == 0 else record.clone()

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._infos:
            raise WeightsError(f"{self.path}: its record {name} is missing. Get the file again.")
        return self._infos[name]

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Find a record's first byte, which only its local header tells."""
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            signature, name, extra = struct.unpack("<4s22xHH", file.read(30))
        if signature != b"PK\x03\x04":
            raise WeightsError(f"{self.path}: its table of contents points nowhere. Get the file again.")
        return info.header_offset + 30 + int(name) + int(extra)


class _Record(NamedTuple):
    """A whole record and what its numbers are."""

    data: UntypedStorage
    dtype: torch.dtype

    @property
    def numbers(self) -> int:
        return self.data.nbytes() // self.dtype.itemsize


class _View(NamedTuple):
    """A tensor as the archive describes it, known to lie inside its record."""

    record: _Record
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def tensor(self) -> Tensor:
        return torch.empty(0, dtype=self.record.dtype).set_(
            self.record.data, self.offset, self.size, self.stride
        )


class _Node:
    """A module, or any other object of a class that the archive defines: its attributes, no behaviour."""

    kind = ""
    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Unpickler(pickle._Unpickler):
    """Build the tree of `data.pkl` from plain data; refuse every global that is not in the list.

    A pickle may call what it is given and set attributes on it. So it is given nothing that lasts:
    tuples that cannot be changed, and classes and functions made for the occasion. The base is the
    unpickler in Python, and of its operations those of protocol 2, the writer's: the one in C, and some
    later operations, allocate what a pickle merely announces, 64 GB for a few bytes.
    """

    dispatch: ClassVar = {
        ord(operation.code): pickle._Unpickler.dispatch[ord(operation.code)]
        for operation in pickletools.opcodes
        if operation.proto <= 2
    }

    def __init__(self, records: _Records) -> None:
        super().__init__(BytesIO(records.bytes("data.pkl")), encoding="utf-8")
        self._records = records
        self._nodes: dict[str, type[_Node]] = {}
        self._loaded: dict[tuple[str, torch.dtype], _Record] = {}

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - fixed by pickle
        full = f"{module}.{name}"
        if full.startswith("__torch__."):
            return self._nodes.setdefault(full, type("_Node", (_Node,), {"kind": full}))
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if full in _WRAPPERS:
            return lambda value, *about: value
        if full == "torch._utils._rebuild_tensor_v2":
            return lambda *given: self._view(*given)
        if full not in _VALUES:
            raise refusal(self._records.path, full)
        return _VALUES[full]

    def persistent_load(self, pid: object) -> _Record:
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), _, int()):
                if (key, dtype) not in self._loaded:
                    self._loaded[key, dtype] = _Record(self._records.storage(f"data/{key}"), dtype)
                return self._loaded[key, dtype]
        raise pickle.UnpicklingError("a storage is described in an unknown way")

    def _view(
        self, record: object, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_about: object
    ) -> _View:
        """Take a tensor's description, after making sure that its last number lies inside the record."""
        if not isinstance(record, _Record):
            raise pickle.UnpicklingError("a tensor is made of something other than a storage")
        size, stride = tuple(size), tuple(stride)
        sound = len(size) == len(stride) and all(
            isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)
        )
        reach = 0 if 0 in size else 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=False))
        if not sound or offset + reach > record.numbers:
            raise WeightsError(
                f"{self._records.path}: a tensor of size {size}, stride {stride} and offset {offset} reaches "
                f"outside its record of {record.numbers} numbers. The file is damaged or was tampered with."
            )
        return _View(record, offset, size, stride)


def _stored_names(records: _Records) -> dict[str, frozenset[str] | None]:
    """Map each module class of the archive to the names of its parameters and buffers.

    None stands for a class whose source does not list them.
    """
    stored: dict[str, frozenset[str] | None] = {}
    for name in records.names():
        if not (name.startswith("code/") and name.endswith(".py")):
            continue
        module = name.removeprefix("code/").removesuffix(".py").replace("/", ".")
        for kind, body in re.findall(r"^class (\w+)\(Module\):\n((?:  .*\n|\n)*)", records.text(name), re.M):
            lists = re.findall(r"^  __(?:parameters|buffers)__ = \[(.*)\]$", body, re.M)
            names = frozenset(re.findall(r'"([^"]*)"', " ".join(lists)))
            stored[f"{module}.{kind}"] = names if len(lists) == 2 else None
    return stored


def _flatten(path: Path, top: object, stored: Mapping[str, frozenset[str] | None]) -> dict[str, Tensor]:
    """Name the tensors of a tree of modules as a state dict does."""
    tensors: dict[str, Tensor] = {}
    waiting = [("", top)]
    seen = 0
    while waiting:
        prefix, node = waiting.pop()
        seen += 1
        if seen > _MOST_MODULES or len(prefix) > _LONGEST_NAME:
            raise WeightsError(f"{path}: its modules contain each other without end. It was tampered with.")
        if not (isinstance(node, _Node) and isinstance(node.state, dict) and node.kind in stored):
            continue
        names = stored[node.kind]
        for name, value in node.state.items():
            if isinstance(value, _View) and (names is None or name in names):
                tensors[f"{prefix}{name}"] = value.tensor()
            elif isinstance(value, _Node):
                waiting.append((f"{prefix}{name}.", value))
    return tensors
