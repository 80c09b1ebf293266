"""Read the named tensors of OpenAI's TorchScript archives as data, without running code.

data.pkl   a tree of modules; each tensor in it is (record, offset, size, stride)
data/N     the bytes of record N, uncompressed
code/      the modules' sources; read as text, to tell parameters and buffers from other tensors
"""

import re
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import torch

from tagmask.clip.stored import DataFile, StoredTensor
from tagmask.clip.tensor_pickle import Record, TensorUnpickler, View, unsafe_pickle_error
from tagmask.clip.zip_records import Records
from tagmask.errors import WeightsError

__all__ = ["read_torchscript"]

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
_MAX_MODULES: Final = 10_000
_MAX_TENSORS: Final = 100_000
_MAX_NAME_LENGTH: Final = 1_000


def read_torchscript(path: Path, archive: zipfile.ZipFile, root: str) -> tuple[dict[str, StoredTensor], bool]:
    """Find the tensors of `torch.jit.load(path).state_dict()` without loading any code.

    Args:
        path: a TorchScript zip archive.
        archive: the same, open.
        root: the folder in the archive that holds `data.pkl`.

    Returns:
        Parameters and buffers by dotted name, not yet read. And whether the modules' sources call GELU;
        OpenAI's own spell out QuickGELU as products.

    Raises:
        WeightsError: a global that is not tensor data, a tensor outside its record, or a record
            that is missing, compressed or of the other byte order.
        Exception: any error of the zip and pickle readers on damaged bytes.
    """
    records = Records(path, archive, root)
    records.check_byte_order()
    top = _Unpickler(records).load()
    sources = {
        name: records.text(name)
        for name in records.names()
        if name.startswith("code/") and name.endswith(".py")
    }
    tensors = _flatten(records.file, top, _stored_names(sources))
    return tensors, any("torch.gelu(" in source for source in sources.values())


class _Node:
    """An object of a class that the archive defines, usually a module: attributes without behaviour."""

    kind = ""
    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Unpickler(TensorUnpickler):
    """Build the tree of modules in `data.pkl`."""

    def __init__(self, records: Records) -> None:
        super().__init__(BytesIO(records.pickled()), records.path)
        self._records = records
        self._nodes: dict[str, type[_Node]] = {}

    def record(self, key: str, dtype: torch.dtype, values: int) -> Record:
        start, nbytes = self._records.span(f"data/{key}")
        return Record(key, dtype, nbytes, start)

    def other_class(self, full: str) -> Any:  # noqa: ANN401 - fixed by pickle
        if full.startswith("__torch__."):
            return self._nodes.setdefault(full, type("_Node", (_Node,), {"kind": full}))
        if full in _WRAPPERS:
            return lambda value, *_: value
        if full == "builtins.complex":
            return self.inert(full)
        raise unsafe_pickle_error(self.path, full)


def _stored_names(sources: Mapping[str, str]) -> dict[str, frozenset[str] | None]:
    """Map each module class of the archive to the names of its parameters and buffers.

    None for a class whose source does not list them.
    """
    stored: dict[str, frozenset[str] | None] = {}
    for name, source in sources.items():
        module = name.removeprefix("code/").removesuffix(".py").replace("/", ".")
        for found in re.finditer(r"^class (\w+)\(Module\):\n((?:  .*\n|\n)*)", source, re.M):
            lists = re.findall(r"^  __(?:parameters|buffers)__ = \[(.*)\]$", found[2], re.M)
            names = frozenset(re.findall(r'"([^"]*)"', " ".join(lists)))
            stored[f"{module}.{found[1]}"] = names if len(lists) == 2 else None
    return stored


def _flatten(
    file: DataFile, top: object, stored: Mapping[str, frozenset[str] | None]
) -> dict[str, StoredTensor]:
    """Collect the tensors of a tree of modules, named as in a state dict."""
    tensors: dict[str, StoredTensor] = {}
    pending = [("", top)]
    count = 0
    while pending:
        prefix, node = pending.pop()
        count += 1
        if count > _MAX_MODULES or len(prefix) > _MAX_NAME_LENGTH:
            raise WeightsError(f"{file.path} was tampered with: its modules contain each other endlessly.")
        if not (isinstance(node, _Node) and isinstance(node.state, dict) and node.kind in stored):
            continue
        names = stored[node.kind]
        for name, value in node.state.items():
            if not isinstance(name, str) or len(name) > _MAX_NAME_LENGTH:
                continue
            if isinstance(value, View) and (names is None or name in names):
                assert value.record.start is not None  # `_Unpickler.record` finds it
                tensors[f"{prefix}{name}"] = value.stored(file, value.record.start)
                if len(tensors) > _MAX_TENSORS:
                    raise WeightsError(f"{file.path} was tampered with: it has too many tensors.")
            elif isinstance(value, _Node):
                pending.append((f"{prefix}{name}.", value))
    return tensors
