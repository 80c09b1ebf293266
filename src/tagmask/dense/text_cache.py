"""Text features on disk: one file per text, so that each is encoded once."""

import hashlib
import io
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.errors import InputError, OutputError
from tagmask.files import cache_dir, seal, unseal, write_bytes
from tagmask.reading import read_regular
from tagmask.strict_json import json_text

__all__ = ["TextCache"]

_LOG = logging.getLogger(__name__)

_LARGEST = 1_000_000
"""Limit on the size of an entry, in bytes."""


class TextCache:
    """The cached features of texts under one text tower and one list of templates.

    An entry is valid only with the checksum of its key and its content, so a damaged, exchanged or edited one
    is encoded again. A cache that cannot be read or written is not an error.

    Args:
        clip: the model that encodes the texts.
        templates: sentences with `{}` as the placeholder of the text.
    """

    def __init__(self, clip: Clip, templates: Sequence[str]) -> None:
        self._identity = (clip.text_fingerprint, *templates)
        try:
            self._folder: Path | None = cache_dir() / "text"
        except InputError:  # no cache folder
            self._folder = None
        self._invalid: list[Path] = []

    def get(self, text: str) -> Float[Tensor, " e"] | None:
        """Read the feature of a text; None if there is no valid entry."""
        if self._folder is None:
            return None
        key = self._key(text)
        file = self._folder / f"{key}.npy"
        try:
            content = unseal(key, read_regular(file, _LARGEST, links=False))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except OSError:  # a pipe, a device, a folder, a link, or too large
            content = None
        if content is None:
            self._invalid.append(file)
            return None
        return torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))

    def put(self, text: str, feature: Float[Tensor, " e"]) -> None:
        """Write the feature of a text, replacing an invalid entry."""
        if self._folder is None:
            return
        buffer = io.BytesIO()
        np.save(buffer, feature.numpy())
        key = self._key(text)
        try:
            write_bytes(self._folder / f"{key}.npy", seal(key, buffer.getvalue()))
        except OutputError:
            return  # a read-only cache folder is not an error

    def report_invalid(self) -> None:
        """Warn about the invalid entries that `get` has met since the last report."""
        if self._invalid:
            _LOG.warning(
                "%d of the cached text features are damaged, as in %s; they are encoded again.",
                len(self._invalid),
                self._invalid[0],
            )
        self._invalid = []

    def _key(self, text: str) -> str:
        return hashlib.sha256(json_text([*self._identity, text]).encode()).hexdigest()
