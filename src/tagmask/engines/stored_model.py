"""Converted models in the cache folder: each a folder of its own, complete and with a checksum."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import cast

from tagmask.errors import InputError
from tagmask.files import cache_dir
from tagmask.reading import open_regular, read_regular

__all__ = ["read_model", "write_model"]

_MODEL, _WEIGHTS, _CHECKSUM = "model.xml", "model.bin", "sha256"


def read_model(key: str) -> Path | None:
    """Return the path of a model, whose weights lie next to it; None if there is no valid one.

    Args:
        key: hash of all that the model was converted from.
    """
    try:
        folder = _folder(key)
        recorded = read_regular(folder / _CHECKSUM, 64, links=False)
        return folder / _MODEL if recorded == _checksum(key, folder) else None
    except (OSError, InputError):  # no cache folder, no entry, or one that is no regular file
        return None


def write_model(key: str, save: Callable[[Path], None]) -> None:
    """Write a model, replacing an invalid one. A cache that cannot be written is not an error.

    Args:
        key: hash of all that the model was converted from.
        save: writes `model.xml` at the given path, and `model.bin` next to it.
    """
    try:
        folder = _folder(key)
        part = folder.parent / f".tagmask-{os.getpid()}-{secrets.token_hex(8)}.part"
    except InputError:  # no cache folder
        return
    try:
        part.mkdir(parents=True)
        save(part / _MODEL)
        (part / _CHECKSUM).write_bytes(_checksum(key, part))
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)  # fails if another process has written it meanwhile
    except (OSError, RuntimeError):  # RuntimeError: OpenVINO's
        return
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _folder(key: str) -> Path:
    return cache_dir() / "engines" / key


def _checksum(key: str, folder: Path) -> bytes:
    digest = hashlib.sha256(key.encode())
    for name in (_MODEL, _WEIGHTS):
        with open_regular(folder / name, links=False) as file:
            digest.update(hashlib.file_digest(cast(BufferedReader, file), "sha256").digest())
    return digest.hexdigest().encode()
