"""Read a pickle that describes tensors as plain data, in bounded time and memory, without running code.

This is not `torch.load`: its reader was found to run code, or to corrupt memory, on crafted files more than
once. Here a pickle gets no function or class of any package. It gets immutable tuples that describe tensors,
objects without behaviour, and builtin containers.
"""

import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

import torch

from tagmask.clip.stored import DataFile, StoredTensor
from tagmask.errors import WeightsError

__all__ = ["DTYPES", "STORAGES", "OtherTensor", "Record", "TensorUnpickler", "View", "unsafe_pickle_error"]

STORAGES: Final[Mapping[str, torch.dtype]] = MappingProxyType(
    {
        "BFloat16Storage": torch.bfloat16,
        "BoolStorage": torch.bool,
        "ByteStorage": torch.uint8,
        "CharStorage": torch.int8,
        "ComplexDoubleStorage": torch.complex128,
        "ComplexFloatStorage": torch.complex64,
        "DoubleStorage": torch.float64,
        "FloatStorage": torch.float32,
        "HalfStorage": torch.float16,
        "IntStorage": torch.int32,
        "LongStorage": torch.int64,
        "QInt8Storage": torch.int8,
        "QInt32Storage": torch.int32,
        "QUInt8Storage": torch.uint8,
        "ShortStorage": torch.int16,
    }
)
"""The dtype of each class of storage; of quantized ones, that of the stored integers."""
DTYPES: Final[Mapping[str, torch.dtype]] = MappingProxyType(
    {
        name: getattr(torch, name)
        for name in (
            *("bfloat16", "bool", "complex64", "complex128", "float16", "float32", "float64"),
            *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
            *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        )
    }
)
_OTHER_TENSORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": "another device's",
        "torch._utils._rebuild_device_tensor_from_numpy": "another device's",
        "torch._utils._rebuild_meta_tensor_no_storage": "meta",
        "torch._utils._rebuild_nested_tensor": "nested",
        "torch._utils._rebuild_qtensor": "quantized",
        "torch._utils._rebuild_sparse_csr_tensor": "sparse",
        "torch._utils._rebuild_sparse_tensor": "sparse",
        "torch._utils._rebuild_wrapper_subclass": "wrapped",
        "torch._tensor._rebuild_from_type_v2": "wrapped",
    }
)
"""Functions that build tensors which are not plain, with a word for each."""

# Limits far above any real file; they bound the work and memory that a crafted one can cause.
_MAX_COPIES: Final = 300_000
_MAX_INTEGER_BITS: Final = 128
_MAX_DIMENSIONS: Final = 16
_MAX_KEY_PARTS: Final = 16

_SCALARS: Final = (str, bytes, int, float, bool, type(None))


def unsafe_pickle_error(path: Path, names: str) -> WeightsError:
    """Return the error that names the unsafe globals of a pickle, and how to convert the file."""
    return WeightsError(
        f"{path} is a pickle that needs {names}; loading it could execute code. "
        "If you trust it, load it elsewhere and save its tensors with safetensors.torch.save_file."
    )


class Record(NamedTuple):
    """Consecutive values in a file."""

    key: str
    dtype: torch.dtype
    nbytes: int
    start: int | None
    """Its offset in the file, in bytes; None if it is not known yet."""

    def numel(self, dtype: torch.dtype) -> int:
        """Number of values, if they are of `dtype`."""
        return self.nbytes // dtype.itemsize


class View(NamedTuple):
    """A tensor's description, checked to be inside its record."""

    record: Record
    dtype: torch.dtype
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of a copy of the tensor, which are more than those of the record if values repeat."""
        return prod(self.size) * self.dtype.itemsize

    def stored(self, file: DataFile, start: int) -> StoredTensor:
        """The tensor in a file, in which its record begins at `start`."""
        return file.tensor(start + self.offset * self.dtype.itemsize, self.dtype, self.size, self.stride)


class OtherTensor(NamedTuple):
    """A tensor that is not plain, and so is not read."""

    kind: str


class _Inert:
    """Stands for an object that is no tensor; takes whatever a pickle does with it, and does nothing."""

    __slots__ = ()

    def __new__(cls, *_: object) -> "_Inert":
        return object.__new__(cls)

    def __setstate__(self, _: object) -> None: ...

    def __setitem__(self, _: object, __: object) -> None: ...

    def append(self, _: object) -> None: ...

    def extend(self, _: object) -> None: ...


class TensorUnpickler(pickle._Unpickler):
    """Build the values of a pickle from plain data; refuse every global that is not on a list.

    A pickle may call the objects that it gets and set attributes on them, so classes and functions are made
    for this one load. The base class is the unpickler written in Python, limited to the operations of
    protocol 2, which torch uses: the unpickler in C, and some later operations, allocate any size that a
    pickle announces, such as 64 GB for a few bytes.
    """

    path: Path
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {}  # filled below

    def __init__(self, file: Any, path: Path) -> None:  # noqa: ANN401 - what pickle reads from
        super().__init__(file, encoding="utf-8")
        self.path = path
        self.left = _MAX_COPIES
        self._inert = type("_Inert", (_Inert,), {"__slots__": ()})

    def spend(self, count: int) -> None:
        """Count copied items, since a pickle may copy the same ones any number of times.

        Raises:
            UnpicklingError: more than any real file copies.
        """
        self.left -= count
        if self.left < 0:
            raise pickle.UnpicklingError(f"more than {_MAX_COPIES} copied items")

    def record(self, key: str, dtype: torch.dtype, values: int) -> Record:
        """Return the record with a key; `values` is the number of values that the pickle claims."""
        raise NotImplementedError

    def other_class(self, full: str) -> Any:  # noqa: ANN401 - fixed by pickle
        """Return what stands for a global that describes no tensor.

        Raises:
            Exception: it is refused.
        """
        raise unsafe_pickle_error(self.path, full)

    def inert(self, full: str) -> Any | None:  # noqa: ANN401 - a class made for this load
        """Return a class without behaviour for a well-known global that is no tensor, else None."""
        return self._inert if _INERT.fullmatch(full) else None

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - fixed by pickle
        """Return what stands for a global; called by pickle."""
        full = f"{module}.{name}"
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if full == "torch._utils._rebuild_tensor_v2":
            return lambda *arguments: self._view(None, *arguments)
        if full in ("collections.OrderedDict", "collections.Counter", "collections.defaultdict"):
            return self._dict
        return self.other_class(full)

    def persistent_load(self, pid: object) -> Record:
        """Return a storage from its description; called by pickle."""
        match pid:
            case ("storage", torch.dtype() as dtype, str(key), _, int(values), *rest) if rest in ([], [None]):
                return self.record(key, dtype, values)
        raise pickle.UnpicklingError("unknown description of a storage")

    def rebuild_tensor(self, full: str) -> Callable[..., object] | None:
        """Return what stands for a function of torch.save that builds a tensor, else None."""
        if full == "torch._utils._rebuild_tensor":
            return lambda *arguments: self._view(None, *arguments)
        if full == "torch._utils._rebuild_tensor_v3":
            return self._view_of_dtype
        if full in _OTHER_TENSORS:
            return lambda *_: OtherTensor(_OTHER_TENSORS[full])
        return None

    def _dict(self, *items: object) -> dict[object, object]:
        """Make a dict; old pickles give an ordered one's items as pairs."""
        made: dict[object, object] = {}
        pairs = items[0] if len(items) == 1 and isinstance(items[0], list) else []
        self.spend(len(pairs))
        plain = [pair for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2]
        _check_keys([key for key, _ in plain])
        made.update((key, value) for key, value in plain)
        return made

    def _view_of_dtype(
        self,
        record: object,
        offset: int,
        size: object,
        stride: object,
        grad: object,
        hooks: object,
        dtype: object,
        metadata: object = None,
    ) -> View | OtherTensor:
        if not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError("a tensor without a dtype")
        return self._view(dtype, record, offset, size, stride, grad, hooks, metadata)

    def _view(
        self,
        dtype: torch.dtype | None,
        record: object,
        offset: int,
        size: object,
        stride: object,
        grad: object = None,
        hooks: object = None,
        metadata: object = None,
    ) -> View | OtherTensor:
        """Return a tensor's description after checking that its last value is inside the record."""
        if not isinstance(record, Record):
            raise pickle.UnpicklingError("a tensor refers to something other than a storage")
        if not (isinstance(size, tuple | list) and isinstance(stride, tuple | list)):
            raise pickle.UnpicklingError("a tensor without a shape")
        if max(len(size), len(stride)) > _MAX_DIMENSIONS:
            raise pickle.UnpicklingError("a tensor of too many dimensions")
        shape, steps = tuple(size), tuple(stride)
        if not all(isinstance(n, int) and not isinstance(n, bool) for n in (offset, *shape, *steps)):
            raise pickle.UnpicklingError("a tensor whose shape is not made of integers")
        dtype = dtype or record.dtype
        valid = len(shape) == len(steps) and min((offset, *shape, *steps)) >= 0
        extent = 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, steps, strict=False))
        if not valid or offset + extent > record.numel(dtype):
            raise WeightsError(
                f"{self.path} was damaged or tampered with: a tensor of size {shape}, "
                f"stride {steps} and offset {offset} reaches outside its record of "
                f"{record.numel(dtype)} values."
            )
        if metadata:  # its sign or its conjugation is to be changed when it is read
            return OtherTensor("a negated or conjugated view")
        return View(record, dtype, offset, shape, steps)


_INERT: Final = re.compile(
    r"numpy\.(dtype|ndarray|(bool|bytes|complex|float|int|str|uint)\d*_?)|numpy\.dtypes\.\w+|numpy\._?core\.(multiarray|numeric)\.\w+"
    r"|_codecs\.encode|copy_?reg\._reconstructor|argparse\.Namespace|(datetime|pathlib)\.\w+"
    r"|(builtins|__builtin__)\.(set|frozenset|bytearray|bytes|complex|slice|range|object|int|float|str|bool"
    r"|list|dict|tuple)|collections\.deque|torch\.(device|Size|Generator|per_\w+)|torch\.serialization\._get_layout"
)
"""Globals of scalars, paths and settings that checkpoints keep beside their tensors."""


def _check_keys(keys: list[Any]) -> None:
    # The hash of nested tuples, which a pickle can share, may take for ever.
    for key in keys:
        parts = key if isinstance(key, tuple) else (key,)
        if len(parts) > _MAX_KEY_PARTS or not all(isinstance(part, _SCALARS) for part in parts):
            raise pickle.UnpicklingError(f"a dict with a {type(key).__name__} as a key")


def _items(value: object) -> int:
    """Number of items that an operation copies from a value."""
    if isinstance(value, tuple):
        return sum(len(part) for part in value if isinstance(part, dict | list | str))
    return len(value) if isinstance(value, dict | list) else 0


def _before_call(unpickler: Any) -> None:  # noqa: ANN401 - pickle's class has no types
    arguments = unpickler.stack[-1]
    if not isinstance(arguments, tuple):
        raise pickle.UnpicklingError("a call without a tuple of arguments")
    unpickler.spend(len(arguments))


def _checked(name: str, operation: Callable[[Any], None]) -> Callable[[Any], None]:
    """Check what an operation would hash, copy or build."""

    def run(unpickler: Any) -> None:  # noqa: ANN401 - pickle's class has no types
        if name in ("SETITEM", "SETITEMS", "DICT"):
            _check_keys(unpickler.stack[-2:-1] if name == "SETITEM" else unpickler.stack[::2])
        elif name in ("REDUCE", "NEWOBJ"):
            _before_call(unpickler)
        elif name == "BUILD":
            unpickler.spend(_items(unpickler.stack[-1]))
            if isinstance(unpickler.stack[-2], dict):  # attributes of an OrderedDict, which nothing reads
                unpickler.stack.pop()
                return
        operation(unpickler)
        if name in ("INT", "LONG", "LONG1", "LONG4"):
            value = unpickler.stack[-1]
            if value.bit_length() > _MAX_INTEGER_BITS:
                raise pickle.UnpicklingError(f"an integer of {value.bit_length()} bits")

    return run


_CHECKED: Final = frozenset(
    {"SETITEM", "SETITEMS", "DICT", "REDUCE", "NEWOBJ", "BUILD", "INT", "LONG", "LONG1", "LONG4"}
)
for _operation in pickletools.opcodes:
    # EXT refers to a registry that all pickles share.
    if _operation.proto <= 2 and not _operation.name.startswith("EXT"):
        _code = ord(_operation.code)
        _run = pickle._Unpickler.dispatch[_code]
        TensorUnpickler.dispatch[_code] = (
            _checked(_operation.name, _run) if _operation.name in _CHECKED else _run
        )
