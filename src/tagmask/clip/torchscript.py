"""Read the named tensors of OpenAI's TorchScript archives as data, without running code.

data.pkl   a tree of modules; each tensor in it is (record, offset, size, stride)
data/N     the bytes of record N, uncompressed, so that they can be memory-mapped
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

__all__ = ["calls_exact_gelu", "read_torchscript", "unsafe_pickle_error"]

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
"""Functions that annotate their first argument; here they return it."""

# Limits far above any real archive; they bound the work and memory that a crafted one can cause.
_MAX_TEXT_BYTES: Final = 1 << 26
_MAX_MODULES: Final = 10_000
_MAX_NAME_LENGTH: Final = 1_000

_GET_AGAIN: Final = "Download or copy the file again."


def read_torchscript(path: Path, root: str) -> dict[str, Tensor]:
    """Read the tensors of `torch.jit.load(path).state_dict()` without loading any code.

    Args:
        path: a TorchScript zip archive.
        root: the folder in the archive that holds `data.pkl`.

    Returns:
        Parameters and buffers by dotted name, as views of the file (memory-mapped, copy-on-write): they use
        no memory until they are accessed. Copy them before the file changes.

    Raises:
        WeightsError: a global that is not tensor data, a tensor outside its record, or a record
            that is missing, compressed or of the other byte order.
        Exception: any error of the zip and pickle readers on damaged bytes.
    """
    with zipfile.ZipFile(path) as archive:
        records = _Records(path, archive, root)
        order = records.text("byteorder") if "byteorder" in records.names() else sys.byteorder
        if order != sys.byteorder:
            raise WeightsError(f"{path} is {order}-endian. Convert it on the machine that wrote it.")
        top = _Unpickler(records).load()
        return _flatten(path, top, _stored_names(records))


def calls_exact_gelu(path: Path, root: str) -> bool:
    """Whether the modules' sources call GELU; OpenAI's own spell out QuickGELU as products.

    Args:
        path: an archive that `read_torchscript` has read successfully.
        root: the folder in the archive that holds `data.pkl`.
    """
    with zipfile.ZipFile(path) as archive:
        records = _Records(path, archive, root)
        sources = [name for name in records.names() if name.startswith("code/") and name.endswith(".py")]
        return any("torch.gelu(" in records.text(name) for name in sources)


def unsafe_pickle_error(path: Path, names: str) -> WeightsError:
    """Return the error that names the unsafe globals of a pickle, and how to convert the file."""
    return WeightsError(
        f"{path} is a pickle that needs {names}; loading it could execute code. "
        "If you trust it, load it elsewhere and save its tensors with safetensors.torch.save_file."
    )


class _Records:
    """The records of one archive: small ones as bytes, large ones as memory-mapped storage."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, root: str) -> None:
        self.path = path
        self._archive = archive
        self._infos = {
            info.filename.removeprefix(f"{root}/"): info
            for info in archive.infolist()
            if info.filename.startswith(f"{root}/")
        }
        self._size = path.stat().st_size
        file_bytes = torch.from_file(str(path), shared=False, size=self._size, dtype=torch.uint8)
        self._mapped = file_bytes.untyped_storage()

    def names(self) -> Iterable[str]:
        return self._infos.keys()

    def bytes(self, name: str) -> bytes:
        info = self._info(name)
        if info.file_size > _MAX_TEXT_BYTES:
            raise WeightsError(
                f"{self.path} is not a CLIP archive: its record {name} claims {info.file_size} bytes."
            )
        return self._archive.read(info)

    def text(self, name: str) -> str:
        return self.bytes(name).decode()

    def storage(self, name: str) -> UntypedStorage:
        """Memory-map the bytes of a record."""
        info = self._info(name)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise WeightsError(
                f"{self.path} was repacked: its record {name} is compressed or encrypted. "
                "Get the original file."
            )
        start = self._start(info)
        if start + info.file_size > self._size:
            raise WeightsError(
                f"{self.path} is damaged: its record {name} ends after the file does. {_GET_AGAIN}"
            )
        if info.file_size == 0:
            return torch.empty(0).untyped_storage()
        record: UntypedStorage = self._mapped[start : start + info.file_size]
        # The writer aligns records to 64 bytes; an archive repacked by another tool may not be aligned.
        return record if start % 8 == 0 else record.clone()

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._infos:
            raise WeightsError(f"{self.path} is damaged: its record {name} is missing. {_GET_AGAIN}")
        return self._infos[name]

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Return the offset of a record's first byte, which only its local header shows."""
        with self.path.open("rb") as file:
            file.seek(info.header_offset)
            signature, name, extra = struct.unpack("<4s22xHH", file.read(30))
        if signature != b"PK\x03\x04":
            raise WeightsError(f"{self.path} is damaged: its table of contents is wrong. {_GET_AGAIN}")
        return info.header_offset + 30 + int(name) + int(extra)


class _Record(NamedTuple):
    """A complete record and the dtype of its values."""

    data: UntypedStorage
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        return self.data.nbytes() // self.dtype.itemsize


class _View(NamedTuple):
    """A tensor's description in the archive, checked to be inside its record."""

    record: _Record
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def tensor(self) -> Tensor:
        return torch.empty(0, dtype=self.record.dtype).set_(
            self.record.data, self.offset, self.size, self.stride
        )


class _Node:
    """An object of a class that the archive defines, usually a module: attributes without behaviour."""

    kind = ""
    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Unpickler(pickle._Unpickler):
    """Build the tree of `data.pkl` from plain data; refuse every global that is not on the list.

    A pickle may call the objects it gets and set attributes on them. So it only gets immutable tuples, and
    classes and functions created for this one load. The base class is the unpickler written in Python,
    limited to the operations of protocol 2, which the writer uses: the unpickler in C, and some later
    operations, allocate any size that a pickle announces, such as 64 GB for a few bytes.
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
            return lambda value, *_: value
        if full == "torch._utils._rebuild_tensor_v2":
            return lambda *arguments: self._view(*arguments)
        if full not in _VALUES:
            raise unsafe_pickle_error(self._records.path, full)
        return _VALUES[full]

    def persistent_load(self, pid: object) -> _Record:
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), _, int()):
                if (key, dtype) not in self._loaded:
                    self._loaded[key, dtype] = _Record(self._records.storage(f"data/{key}"), dtype)
                return self._loaded[key, dtype]
        raise pickle.UnpicklingError("unknown description of a storage")

    def _view(
        self, record: object, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
    ) -> _View:
        """Return a tensor's description after checking that its last value is inside the record."""
        if not isinstance(record, _Record):
            raise pickle.UnpicklingError("a tensor refers to something other than a storage")
        size, stride = tuple(size), tuple(stride)
        valid = len(size) == len(stride) and all(
            isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)
        )
        extent = 0 if 0 in size else 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=False))
        if not valid or offset + extent > record.numel:
            raise WeightsError(
                f"{self._records.path} was damaged or tampered with: a tensor of size {size}, "
                f"stride {stride} and offset {offset} reaches outside its record of {record.numel} values."
            )
        return _View(record, offset, size, stride)


def _stored_names(records: _Records) -> dict[str, frozenset[str] | None]:
    """Map each module class of the archive to the names of its parameters and buffers.

    None for a class whose source does not list them.
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
    """Collect the tensors of a tree of modules, named as in a state dict."""
    tensors: dict[str, Tensor] = {}
    pending = [("", top)]
    count = 0
    while pending:
        prefix, node = pending.pop()
        count += 1
        if count > _MAX_MODULES or len(prefix) > _MAX_NAME_LENGTH:
            raise WeightsError(f"{path} was tampered with: its modules contain each other endlessly.")
        if not (isinstance(node, _Node) and isinstance(node.state, dict) and node.kind in stored):
            continue
        names = stored[node.kind]
        for name, value in node.state.items():
            if isinstance(value, _View) and (names is None or name in names):
                tensors[f"{prefix}{name}"] = value.tensor()
            elif isinstance(value, _Node):
                pending.append((f"{prefix}{name}.", value))
    return tensors
