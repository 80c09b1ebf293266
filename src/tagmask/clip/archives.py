"""Weights files -> named tensors, never running what is in them.

What a file is follows from its content, not from its name:

    zip with data.pkl and constants.pkl   OpenAI's TorchScript archive, read as data (`torchscript`)
    zip with data.pkl, or a bare pickle   torch.save, read by torch's weights-only reader
    length and JSON header                safetensors

Anything else is refused with a sentence on what it is.
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

from tagmask.clip.torchscript import calls_exact_gelu, read_torchscript, refusal
from tagmask.errors import WeightsError

__all__ = ["Archive", "read_weights"]

_NESTS: Final = ("state_dict", "model_state_dict", "model")
_SUFFIXES: Final = (".pt", ".pth", ".bin", ".safetensors")
_AGAIN: Final = "Get the file again; a download or copy may have stopped early."

_KNOWN_STARTS: Final[Mapping[bytes, str]] = MappingProxyType(
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
    """What a weights file holds."""

    tensors: Mapping[str, Tensor]
    """By the names in the file, on the CPU, in the file's precision; perhaps views of the mapped file."""
    kind: Literal["openai-archive", "state-dict", "safetensors"]
    metadata: Mapping[str, str]
    """A safetensors header's; of an archive that calls GELU itself, that; empty for the other kinds."""


def read_weights(path: Path) -> Archive:
    """Read the tensors of a weights file.

    Args:
        path: OpenAI's archive, a file of torch.save, or safetensors, under any name. In a torch.save
            file the tensors may lie in a dict, or one level down under "state_dict",
            "model_state_dict" or "model"; a common "module." in front of the names is taken off.

    Raises:
        WeightsError: the file is absent, unreadable, damaged, not weights, or holds a pickle that
            asks for more than tensors. Nothing of it was run.

    Departs from `torch.load`, which trusts a name's ending, and from `torch.jit.load`, which loads code.
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
    # Whatever the readers raise on damaged or crafted bytes, the user has one thing to know.
    except Exception as error:
        raise WeightsError(f"{path} is damaged or cut off ({_reason(error)}). {_AGAIN}") from error
    raise WeightsError(f"{path} holds no weights: it is {_describe(head)}")


def _head(path: Path) -> bytes:
    """Give the first bytes of a regular, readable, non-empty file."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise WeightsError(f"{path} is a folder; give the weights file itself.{_inside(path)}")
        if not stat.S_ISREG(mode):
            raise WeightsError(f"{path} is a device or a pipe; give a weights file.")
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError as error:
        raise WeightsError(f"There is no file {path}.{_nearby(path)}") from error
    except PermissionError as error:
        raise WeightsError(f"{path} may not be read by this user; change its permissions.") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {_reason(error)}.") from error
    if not head:
        raise WeightsError(f"{path} is empty. {_AGAIN}")
    return head


def _inside(folder: Path) -> str:
    files = _listed(folder)
    found = [name for name in files if name.endswith(_SUFFIXES)]
    return f" It holds {', '.join(found[:3])}." if found else " It holds none that is named like one."


def _nearby(path: Path) -> str:
    if path.is_symlink():
        return f" It is a link to {path.readlink()}, which is not there."
    if not path.parent.is_dir():
        return f" Its folder {path.parent} does not exist either."
    similar = get_close_matches(path.name, _listed(path.parent))
    return f" Did you mean {' or '.join(similar)}?" if similar else " Check the path."


def _listed(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    return []


def _read_zip(path: Path) -> Archive:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    root = next((name.split("/")[0] for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)), None)
    if root is None:
        packed = [name for name in names if name.endswith(_SUFFIXES)]
        advice = f"unpack it and give {packed[0]}" if packed else "give the weights file itself"
        raise WeightsError(f"{path} is a zip but no weights (it holds {_few(names)}): {advice}.")
    if f"{root}/constants.pkl" in names:
        tensors = read_torchscript(path, root)
        said = {"activation": "gelu"} if calls_exact_gelu(path, root) else {}
        return Archive(MappingProxyType(tensors), "openai-archive", MappingProxyType(said))
    return _read_torch(path, zipped=True)


def _read_safetensors(path: Path) -> Archive:
    with safe_open(path, framework="pt", device="cpu") as file:
        # keys() exists on the handle alone, which is no mapping
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata() or {})
    return Archive(MappingProxyType(_bare(tensors)), "safetensors", MappingProxyType(metadata))


def _read_torch(path: Path, *, zipped: bool) -> Archive:
    try:
        loaded = _load(path, zipped)
    except pickle.UnpicklingError as error:
        asked = dict.fromkeys(_globals(path, zipped))
        refused = [name for name in asked if not _TENSOR_DATA.fullmatch(name)]
        if not refused:
            raise WeightsError(
                f"{path} is damaged or cut off, or was pickled by another protocol than torch.save's. "
                f"{_AGAIN} Or save its tensors again, as safetensors."
            ) from error
        raise refusal(path, _few(refused)) from error
    return Archive(MappingProxyType(_bare(_tensors(path, loaded))), "state-dict", MappingProxyType({}))


def _load(path: Path, zipped: bool) -> object:
    with warnings.catch_warnings():
        # A protocol other than 2 is either read or refused; the warning helps nobody.
        warnings.filterwarnings("ignore", message="Detected pickle protocol")
        # torch.load trusts this one ending more than the content, and maps only what it opens by name
        if zipped and path.suffix != ".safetensors":
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)


def _tensors(path: Path, loaded: object) -> dict[str, Tensor]:
    """Find the dict of tensors, which may lie one level down."""
    if isinstance(loaded, dict):
        for candidate in (*(loaded.get(nest) for nest in _NESTS), loaded):
            if isinstance(candidate, dict):
                tensors = {k: v.detach() for k, v in candidate.items() if isinstance(v, Tensor)}
                if tensors:
                    return {str(name): tensor for name, tensor in tensors.items()}
    found = (
        f"a dict with {_few(list(loaded))}" if isinstance(loaded, dict) else f"one {type(loaded).__name__}"
    )
    raise WeightsError(
        f"{path} holds {found}, not named tensors. "
        f"Save a model's state_dict(), alone or under {' / '.join(_NESTS)}."
    )


def _bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off the "module." that data-parallel training puts in front of every name."""
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


_TENSOR_DATA: Final = re.compile(
    r"collections\.OrderedDict|torch\.\w+Storage|torch\.storage\.\w+|torch\._utils\._rebuild_\w+"
)


def _globals(path: Path, zipped: bool) -> Iterator[str]:
    """Name, without running anything, the globals that the pickles of a torch.save file ask for."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(ValueError))  # damage ends the search
        if zipped:
            archive = stack.enter_context(zipfile.ZipFile(path))
            record = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            yield from _globals_of_one(BytesIO(archive.read(record)))
        else:
            file = stack.enter_context(path.open("rb"))
            for _ in range(5):  # the old format is a row of five pickles, then raw bytes
                yield from _globals_of_one(file)


def _globals_of_one(file: BytesIO | BufferedReader) -> Iterator[str]:
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
    """Say what a file that holds no weights seems to be, and what to do."""
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer that stands for the real file: run `git lfs pull`."
    text = _text(head)
    if text is not None and text.startswith("<"):
        return "a web page (HTML or XML), perhaps an error page saved in its place: download it again."
    if text is not None:
        return f"a text file that begins with {text[:40]!r}."
    for start, name in _KNOWN_STARTS.items():
        if head.startswith(start):
            return f"{name}."
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first."
    return f"of no kind that is known here (it begins with the bytes {head[:8].hex(' ')})."


def _text(head: bytes) -> str | None:
    """Decode the head of a text file; None if it is not one."""
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
