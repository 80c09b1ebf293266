"""Read the named tensors of a weights file without running any code in it.

The content decides the format, not the file name:

    zip with data.pkl and constants.pkl   OpenAI's TorchScript archive, read as data (`torchscript`)
    zip with data.pkl, or a bare pickle   torch.save, read by torch's weights-only reader
    length and JSON header                safetensors

For any other file, the error message says what the file seems to be.
"""

import contextlib
import pickle
import pickletools
import re
import stat
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from io import BufferedReader, BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import torch
from safetensors import safe_open
from torch import Tensor

from tagmask.clip.torchscript import calls_exact_gelu, read_torchscript, unsafe_pickle_error
from tagmask.errors import WeightsError

__all__ = ["STUDENT_FORMAT", "Archive", "read_weights"]

STUDENT_FORMAT: Final = "tagmask-student"
"""How the format begins that the header of a student file states (`weak.students.student_file`)."""

_NESTED_KEYS: Final = ("state_dict", "model_state_dict", "model")
_SUFFIXES: Final = (".pt", ".pth", ".bin", ".safetensors")
_GET_AGAIN: Final = "Download or copy the file again."

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


@dataclass(frozen=True)
class Archive:
    """The content of a weights file."""

    tensors: Mapping[str, Tensor]
    """By name, on the CPU, in the file's precision. May be views of the memory-mapped file."""
    kind: Literal["openai-archive", "state-dict", "safetensors"]
    metadata: Mapping[str, str]
    """The header of a safetensors file; {"activation": "gelu"} for a TorchScript archive that calls GELU;
    else empty."""


def read_weights(path: Path) -> Archive:
    """Read the tensors of a weights file.

    Args:
        path: OpenAI's archive, a file of torch.save, or safetensors, under any name. In a torch.save
            file the tensors may be in a dict, or one level down under "state_dict",
            "model_state_dict" or "model". If all names start with "module.", that prefix is removed.

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
            return _read_safetensors(path)
        if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
            return _read_torch(path, zipped=False)
    except WeightsError:
        raise
    # The readers raise many types of error on damaged or crafted bytes; all mean the same to the user.
    except Exception as error:
        raise WeightsError(f"{path} is damaged or incomplete ({_reason(error)}). {_GET_AGAIN}") from error
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
        raise WeightsError(f"There is no file {path}. {_suggest_path(path)}") from error
    except PermissionError as error:
        raise WeightsError(f"No permission to read {path}. Change its permissions.") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {_reason(error)}.") from error
    if not head:
        raise WeightsError(f"{path} is empty. {_GET_AGAIN}")
    return head


def _weights_inside(folder: Path) -> str:
    weights = [name for name in _file_names(folder) if name.endswith(_SUFFIXES)]
    return f"It holds {', '.join(weights[:3])}." if weights else f"It holds no {' / '.join(_SUFFIXES)} file."


def _suggest_path(path: Path) -> str:
    if path.is_symlink():
        return f"It is a link to {path.readlink()}, which does not exist."
    if not path.parent.is_dir():
        return f"Its folder {path.parent} does not exist either. Check the path."
    similar = get_close_matches(path.name, _file_names(path.parent))
    return f"Did you mean {' or '.join(similar)}?" if similar else "Check the path."


def _file_names(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    return []


def _read_zip(path: Path) -> Archive:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    root = next((name.split("/")[0] for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)), None)
    if root is None:
        packed = [name for name in names if name.endswith(_SUFFIXES)]
        advice = f"Unpack it and give {packed[0]}" if packed else "Give the weights file itself"
        raise WeightsError(f"{path} is a zip without weights. It holds {_few(names)}. {advice}.")
    if f"{root}/constants.pkl" in names:
        tensors = read_torchscript(path, root)
        metadata = {"activation": "gelu"} if calls_exact_gelu(path, root) else {}
        return Archive(MappingProxyType(tensors), "openai-archive", MappingProxyType(metadata))
    return _read_torch(path, zipped=True)


def _read_safetensors(path: Path) -> Archive:
    with safe_open(path, framework="pt", device="cpu") as file:
        # The handle has keys(), but is not a mapping.
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata() or {})
    return Archive(
        MappingProxyType(_without_module_prefix(tensors)), "safetensors", MappingProxyType(metadata)
    )


def _read_torch(path: Path, *, zipped: bool) -> Archive:
    try:
        loaded = _load(path, zipped)
    except pickle.UnpicklingError as error:
        names = dict.fromkeys(_globals(path, zipped))
        unsafe = [name for name in names if not _TENSOR_DATA.fullmatch(name)]
        if not unsafe:
            raise WeightsError(
                f"{path} is damaged or incomplete, or uses another pickle protocol than torch.save. "
                f"{_GET_AGAIN} Or save its tensors as safetensors."
            ) from error
        raise unsafe_pickle_error(path, _few(unsafe)) from error
    tensors = _without_module_prefix(_tensors(path, loaded))
    return Archive(MappingProxyType(tensors), "state-dict", MappingProxyType({}))


def _load(path: Path, zipped: bool) -> object:
    with warnings.catch_warnings():
        # Other pickle protocols are either read or refused, so this warning is of no use.
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        # torch.load reads every *.safetensors path as safetensors, and memory-maps only files it opens
        # itself.
        if zipped and path.suffix != ".safetensors":
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)


def _tensors(path: Path, loaded: object) -> dict[str, Tensor]:
    """Find the dict of tensors, which may be one level down."""
    if isinstance(loaded, dict):
        for candidate in (*(loaded.get(key) for key in _NESTED_KEYS), loaded):
            if isinstance(candidate, dict):
                tensors = {k: v.detach() for k, v in candidate.items() if isinstance(v, Tensor)}
                if tensors:
                    return {str(name): tensor for name, tensor in tensors.items()}
    content = (
        f"a dict with {_few(list(loaded))}" if isinstance(loaded, dict) else f"one {type(loaded).__name__}"
    )
    raise WeightsError(
        f"{path} holds {content}, not named tensors. "
        f"Save a model's state_dict(), alone or under {' / '.join(_NESTED_KEYS)}."
    )


def _without_module_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the "module." prefix that data-parallel training adds to every name."""
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


_TENSOR_DATA: Final = re.compile(
    r"collections\.OrderedDict|torch\.\w+Storage|torch\.storage\.\w+|torch\._utils\._rebuild_\w+"
)


def _globals(path: Path, zipped: bool) -> Iterator[str]:
    """List the globals that the pickles of a torch.save file refer to, without running anything."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(ValueError))  # stop at damage
        if zipped:
            archive = stack.enter_context(zipfile.ZipFile(path))
            record = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            yield from _globals_of_pickle(BytesIO(archive.read(record)))
        else:
            file = stack.enter_context(path.open("rb"))
            for _ in range(5):  # the old format: five pickles, then raw bytes
                yield from _globals_of_pickle(file)


def _globals_of_pickle(file: BytesIO | BufferedReader) -> Iterator[str]:
    texts = [""]
    memo: dict[object, str] = {}
    for code, argument, _ in pickletools.genops(file):
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


def _few(names: list[str]) -> str:
    shown = ", ".join(str(name) for name in names[:4])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 4 else shown or "nothing"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
