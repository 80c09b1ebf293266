"""Find and read the named tensors of a weights file without running any code in it.

The content decides the format, not the file name:

    zip with data.pkl and constants.pkl   OpenAI's TorchScript archive, read as data (`torchscript`)
    zip with data.pkl, or a bare pickle   torch.save, read as data too (`torch_save`)
    length and JSON header                safetensors (`safetensors_file`)

For any other file, the error message says what the file seems to be.
"""

import contextlib
import pickle
import pickletools
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Final, Generic, Literal, TypeVar

from torch import Tensor

from tagmask.checks import did_you_mean
from tagmask.clip.safetensors_file import find_tensors
from tagmask.clip.stored import StoredTensor
from tagmask.clip.tensor_pickle import OtherTensor, View, unsafe_pickle_error
from tagmask.clip.torch_save import Storages, read_legacy, read_zipped
from tagmask.clip.torchscript import read_torchscript
from tagmask.clip.wrappers import without_wrappers
from tagmask.clip.zip_records import GET_AGAIN, MAX_PICKLE_BYTES, open_zip
from tagmask.errors import WeightsError
from tagmask.printable import shortened

__all__ = ["STUDENT_FORMAT", "Archive", "open_weights", "read_weights"]

STUDENT_FORMAT: Final = "tagmask-student"
"""How the format begins that the header of a student file states (`weak.students.student_file`)."""

_NESTED_KEYS: Final = (
    *("state_dict", "model_state_dict", "model", "module"),
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema"),
)
_SUFFIXES: Final = (".pt", ".pth", ".bin", ".safetensors")
_MAX_HEADER_BYTES: Final = 1 << 23
"""Largest header of a safetensors file that is read; that of a ViT-L has 0.1 MB."""
_MAX_OPERATIONS: Final = 1_000_000
_SLACK_BYTES: Final = 1 << 20

_KNOWN_SIGNATURES: Final[Mapping[bytes, str]] = MappingProxyType(
    {
        b"\x89PNG": "a PNG image",
        b"\xff\xd8\xff": "a JPEG image",
        b"GIF8": "a GIF image",
        b"RIFF": "a WebP image or another RIFF file",
        b"II*\0": "a TIFF image",
        b"MM\0*": "a TIFF image",
        b"BM": "a BMP image",
        b"%PDF": "a PDF document",
        b"PK\x05\x06": "an empty zip",
        b"\x1f\x8b": "a gzip archive: unpack it first",
        b"BZh": "a bzip2 archive: unpack it first",
        b"\xfd7zXZ": "an xz archive: unpack it first",
        b"7z\xbc\xaf": "a 7z archive: unpack it first",
        b"(\xb5/\xfd": "a zstd archive: unpack it first",
        b"\x89HDF": "an HDF5 file (Keras?)",
        b"\x93NUMPY": "a NumPy array",
        b"GGUF": "a GGUF file",
    }
)


_AnyTensor = TypeVar("_AnyTensor", Tensor, StoredTensor)
_Kind = Literal["openai-archive", "state-dict", "safetensors"]


@dataclass(frozen=True)
class Archive(Generic[_AnyTensor]):
    """The content of a weights file."""

    tensors: Mapping[str, _AnyTensor]
    """By name, in the file's precision."""
    kind: _Kind
    metadata: Mapping[str, str]
    """The header of a safetensors file; {"activation": "gelu"} for a TorchScript archive that calls GELU;
    else empty."""


def read_weights(path: Path) -> Archive[Tensor]:
    """Read all tensors of a weights file into memory, on the CPU; see `open_weights`.

    Raises:
        WeightsError: as `open_weights`.
    """
    archive = open_weights(path)
    tensors = {name: stored.read() for name, stored in archive.tensors.items()}
    return Archive(MappingProxyType(tensors), archive.kind, archive.metadata)


def open_weights(path: Path) -> Archive[StoredTensor]:
    """Find the tensors of a weights file.

    Args:
        path: OpenAI's archive, a file of torch.save, or safetensors, under any name. In a torch.save
            file the tensors may be in a dict, or one level down under "state_dict",
            "model_state_dict", "model" or a name of averaged weights. What data-parallel, averaged and
            compiled models put into the names ("module.", "_orig_mod.") is removed.

    Raises:
        WeightsError: the file is absent, unreadable, damaged, not weights, or a pickle that needs more
            than tensor data. No code in the file is run.

    Unlike `torch.load`, the file extension is ignored; unlike `torch.jit.load`, no code is loaded.
    """
    head = _head(path)
    try:
        if head.startswith(b"PK\x03\x04"):
            return _read_zip(path)
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30:
            return _read_safetensors(path, int.from_bytes(head[:8], "little"))
        if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
            return _read_legacy(path)
    except WeightsError:
        raise
    # The readers raise many types of error on damaged or crafted bytes; all mean the same to the user.
    except Exception as error:
        raise WeightsError(f"{path} is damaged or incomplete ({_reason(error)}). {GET_AGAIN}") from error
    raise WeightsError(f"{path} is not a weights file. It is {_describe(head)}")


def _head(path: Path) -> bytes:
    """Return the first bytes of a regular, readable, non-empty file."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise WeightsError(f"{path} is a folder. Give the weights file itself. {_weights_inside(path)}")
        if not stat.S_ISREG(mode):
            raise WeightsError(f"{path} is a device or a pipe. Give a regular file.")
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file {path}. {_suggest_path(path)}", _GET_DEFAULT) from error
    except PermissionError as error:
        raise WeightsError(f"No permission to read {path}. Change its permissions.") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {_reason(error)}.") from error
    if not head:
        raise WeightsError(f"{path} is empty. {GET_AGAIN}")
    return head


def _weights_inside(folder: Path) -> str:
    weights = [name for name in _file_names(folder) if name.endswith(_SUFFIXES)]
    return f"It holds {', '.join(weights[:3])}." if weights else f"It holds no {' / '.join(_SUFFIXES)} file."


_GET_DEFAULT = "Without a path, OpenAI's ViT-B/16 is downloaded if needed: leave the weights out."


def _suggest_path(path: Path) -> str:
    if path.is_symlink():
        return f"It is a link to {path.readlink()}, which does not exist."
    if not path.parent.is_dir():
        return f"Its folder {path.parent} does not exist either. Check the path."
    return did_you_mean(path.name, _file_names(path.parent)).lstrip() or "Check the path."


def _file_names(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    return []


def _read_zip(path: Path) -> Archive[StoredTensor]:
    with open_zip(path) as archive:
        names = archive.namelist()
        root = next((name.split("/")[0] for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)), None)
        if root is None:
            packed = [shortened(name) for name in names if name.endswith(_SUFFIXES)]
            advice = f"Unpack it and give {packed[0]}" if packed else "Give the weights file itself"
            raise WeightsError(f"{path} is a zip without weights. It holds {_few(names)}. {advice}.")
        if f"{root}/constants.pkl" in names:
            tensors, calls_gelu = read_torchscript(path, archive, root)
            metadata = {"activation": "gelu"} if calls_gelu else {}
            return _archive(path, tensors, "openai-archive", metadata)
        try:
            loaded, storages = read_zipped(path, archive, root)
        except (pickle.UnpicklingError, KeyError) as error:
            raise _unreadable(path, BytesIO(archive.read(f"{root}/data.pkl")), error) from error
    return _archive(path, _tensors(path, loaded, storages), "state-dict", {})


def _read_legacy(path: Path) -> Archive[StoredTensor]:
    try:
        loaded, storages = read_legacy(path)
    except (pickle.UnpicklingError, KeyError) as error:
        with path.open("rb") as file:
            raise _unreadable(path, BytesIO(file.read(MAX_PICKLE_BYTES)), error) from error
    return _archive(path, _tensors(path, loaded, storages), "state-dict", {})


def _read_safetensors(path: Path, header_bytes: int) -> Archive[StoredTensor]:
    if header_bytes > _MAX_HEADER_BYTES:
        raise WeightsError(f"{path} is not a weights file: its header claims {header_bytes} bytes.")
    tensors, metadata = find_tensors(path, header_bytes)
    return _archive(path, tensors, "safetensors", metadata)


def _archive(
    path: Path, tensors: Mapping[str, StoredTensor], kind: _Kind, metadata: Mapping[str, str]
) -> Archive[StoredTensor]:
    """Check that copies of the tensors are not much larger than the file, and remove wrappers' names."""
    sizes = {name: stored.nbytes for name, stored in tensors.items()}
    # A tensor may repeat the values that the file holds; a real one repeats few.
    if sum(sizes.values()) > 2 * path.stat().st_size + _SLACK_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        raise WeightsError(
            f"{path} was tampered with: its tensors claim {sum(sizes.values())} bytes, "
            f"{shortened(largest)} {sizes[largest]} of them, but it has {path.stat().st_size}."
        )
    names = without_wrappers(tensors, path)
    return Archive(MappingProxyType(names), kind, MappingProxyType(dict(metadata)))


def _tensors(path: Path, loaded: object, storages: Storages) -> dict[str, StoredTensor]:
    """Find the dict of tensors, which may be one level down."""
    if isinstance(loaded, dict):
        for candidate in (*(loaded.get(key) for key in _NESTED_KEYS), loaded):
            if isinstance(candidate, dict) and any(isinstance(v, View) for v in candidate.values()):
                return _plain_tensors(path, candidate, storages)
        for candidate in (*(loaded.get(key) for key in _NESTED_KEYS), loaded):
            if isinstance(candidate, dict):
                _plain_tensors(path, candidate, storages)
    content = f"a dict with {_few(list(loaded))}" if isinstance(loaded, dict) else f"one {_kind_of(loaded)}"
    raise WeightsError(
        f"{path} holds {content}, not named tensors. "
        f"Save a model's state_dict(), alone or under {' / '.join(_NESTED_KEYS[:3])}."
    )


def _plain_tensors(path: Path, found: Mapping[object, object], storages: Storages) -> dict[str, StoredTensor]:
    other = [(name, value.kind) for name, value in found.items() if isinstance(value, OtherTensor)]
    if other:
        name, kind = other[0]
        raise WeightsError(
            f"{path}: the tensor {shortened(name)} is {kind} ({len(other)} in all). Only plain tensors with "
            "values in the file are supported: save the model again on the CPU with dense tensors."
        )
    return {str(name): storages.stored(value) for name, value in found.items() if isinstance(value, View)}


def _kind_of(loaded: object) -> str:
    return "Tensor" if isinstance(loaded, View | OtherTensor) else type(loaded).__name__


def _unreadable(path: Path, pickled: BytesIO, error: Exception) -> WeightsError:
    """Return the error that tells why pickles cannot be read: what they refer to, or damage."""
    names = dict.fromkeys(_globals(pickled))
    unsafe = [name for name in names if not _TENSOR_DATA.fullmatch(name)]
    if unsafe:
        return unsafe_pickle_error(path, _few(unsafe))
    return WeightsError(
        f"{path} is damaged or incomplete, or uses another pickle protocol than torch.save "
        f"({_reason(error)}). "
        f"{GET_AGAIN} Or save its tensors as safetensors."
    )


_TENSOR_DATA: Final = re.compile(
    r"collections\.OrderedDict|torch\.\w+Storage|torch\.storage\.\w+|torch\._utils\._rebuild_\w+"
)


def _globals(pickled: BytesIO) -> Iterator[str]:
    """List the globals that up to five pickles refer to, without running anything."""
    with contextlib.suppress(ValueError):  # stop at damage
        for _ in range(5):  # torch's older format has five pickles, then raw bytes
            yield from _globals_of_pickle(pickled)


def _globals_of_pickle(pickled: BytesIO) -> Iterator[str]:
    texts = [""]
    memo: dict[object, str] = {}
    for code, argument, _ in islice(pickletools.genops(pickled), _MAX_OPERATIONS):
        if code.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL":
            yield ".".join(texts[-2:])
        elif code.name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if argument is None else argument] = texts[-1]
        elif code.name in ("BINGET", "LONG_BINGET"):
            texts.append(memo.get(argument, ""))
        elif "UNICODE" in code.name:
            texts.append(str(argument))


def _describe(head: bytes) -> str:
    """Describe, for a message, what a file without weights seems to be."""
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself: run `git lfs pull`."
    text = _text(head)
    if text is not None and text.startswith("<"):
        return "a web page (HTML or XML), perhaps a saved error page: download the file again."
    if text is not None:
        return f"a text file that begins with {text[:40]!r}."
    for signature, name in _KNOWN_SIGNATURES.items():
        if head.startswith(signature):
            return f"{name}."
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first."
    return f"a file of an unknown format (it begins with the bytes {head[:8].hex(' ')})."


def _text(head: bytes) -> str | None:
    """Decode the first bytes of a text file; None if it is not text."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return None
        text = head[: error.start].decode("utf-8-sig")
    return None if re.search(r"[^\s -\U0010ffff]", text) else text.lstrip()


def _few(names: Sequence[object]) -> str:
    shown = ", ".join(shortened(name) for name in names[:4])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 4 else shown or "nothing"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
