"""Find weights by name or path, and download them if necessary.

    "miniature"                     the small model bundled with this package
    "ViT-B-16:openai"               known names (`names`): ~/.cache/clip, then the hub's cache, then the web
    "hf:owner/repo@revision"        the hub's cache, then the hub; open_clip's "hf-hub:" is the same
    anything else                   a path; paths never use the network

Cached files are used without checking the network for newer ones. Files that are found by a name must have
the SHA-256 that was published for them, where it is known (`verified`).
"""

import logging
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from tagmask.clip.download import Progress, fetch
from tagmask.clip.folders import weights_files
from tagmask.clip.hub import (
    cached_folder,
    download_folder,
    hub_cache,
    offline_variable,
    published_sha256,
    split_revision,
)
from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD, MetadataClaim
from tagmask.clip.names import KnownWeights, known_weights
from tagmask.clip.other_names import refuse_other_name
from tagmask.clip.verified import verify
from tagmask.errors import DownloadError, InputError, WeightsError

__all__ = ["BUNDLED", "DEFAULT_WEIGHTS", "Source", "cached", "clip_cache", "find"]

_LOG = logging.getLogger(__name__)

_HUB_PREFIXES: Final = ("hf:", "hf-hub:")
BUNDLED: Final = Path(str(resources.files("tagmask"))) / "miniature" / "miniature.safetensors"
DEFAULT_WEIGHTS: Final = "ViT-B-16:openai"
"""Weights used if none are given and TAGMASK_WEIGHTS is not set."""
_ADVICE: Final = "Give the path of a weights file, or 'miniature' for the bundled model."


@dataclass(frozen=True)
class Source:
    """Where weights are, and what their name says about them."""

    path: Path
    """A file or a folder."""
    claim: MetadataClaim | None = None
    known_weights: KnownWeights | None = None
    """The entry in the table of names; None for paths and other repositories."""


def find(weights: str | os.PathLike[str], progress: Progress | None = None) -> Source:
    """Find weights on this machine; download them first if a name is not in the caches.

    Args:
        weights: in one of the forms listed in the module's docstring. A PathLike is always a path, and so is
            a string that is an existing path.
        progress: called as bytes arrive.

    Raises:
        DownloadError: they are not in the caches, and cannot be downloaded.
        WeightsError: an unknown name, or that of a model that is not supported; a repository without a CLIP;
            or a cached file that is not the published one.
        InputError: neither a string nor a path.
    """
    source, target = cached(weights), _parse(weights)
    if source is not None:
        if not isinstance(target, Path):
            _verify(source)
        return source
    if isinstance(target, KnownWeights):
        return Source(_download_known(target, progress), target.claim, target)
    if isinstance(target, _Repository):
        return Source(_download_repository(target, progress))
    return Source(target)


def cached(weights: object) -> Source | None:
    """Find weights on this machine; None if they must be downloaded first. Paths may or may not exist.

    Raises:
        WeightsError: an unknown name.
        InputError: neither a string nor a path.
    """
    target = _parse(weights)
    if isinstance(target, KnownWeights):
        path = _cached_known(target)
        return Source(path, target.claim, target) if path else None
    if isinstance(target, _Repository):
        folder = cached_folder(target.name, target.revision)
        return Source(folder) if folder else None
    if target == BUNDLED:
        return Source(target, MetadataClaim("tagmask", mean=OPENAI_MEAN, std=OPENAI_STD))
    return Source(target)


def _verify(source: Source) -> None:
    """Check files that were found by a name against the hashes that were published for them."""
    known = source.known_weights
    if known is not None and source.path.is_file():
        verify(source.path, known.sha256)
        return
    for file in weights_files(source.path):
        verify(file, published_sha256(file))


def clip_cache() -> Path:
    """Return the folder where OpenAI's package and open_clip store downloads from sites other than the hub.

    Raises:
        WeightsError: there is no home folder.
    """
    try:
        return Path.home() / ".cache" / "clip"
    except RuntimeError as error:
        raise WeightsError(
            "There is no home folder to search for weights. Give the path of a weights file."
        ) from error


class _Repository(NamedTuple):
    """A repository on the hub."""

    name: str
    revision: str


def _parse(weights: object) -> Path | KnownWeights | _Repository:
    if not isinstance(weights, str | os.PathLike):
        raise InputError(
            f"Invalid weights {weights!r}. Give a name such as 'ViT-B-16:openai' or 'miniature', or a path."
        )
    name = os.fspath(weights)
    if not isinstance(weights, str):
        return _expanded(name)
    if name == "miniature":
        return BUNDLED
    for prefix in _HUB_PREFIXES:
        if name.startswith(prefix):
            return _Repository(*split_revision(name.removeprefix(prefix)))
    path = _expanded(name.removeprefix("local-dir:"))
    if _exists(path):
        return path
    known = known_weights(name)
    if known is None:
        refuse_other_name(name)
    return known or path


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have, which the reader explains
        return False


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise WeightsError(f"Cannot find the home folder in {name}. Give a full path.") from error


def _cached_known(entry: KnownWeights) -> Path | None:
    if entry.file and (clip_cache() / entry.file).is_file():
        return clip_cache() / entry.file
    return next(filter(None, map(cached_folder, entry.repos)), None)


def _download_known(entry: KnownWeights, progress: Progress | None) -> Path:
    """Download from the entry's URL if there is one; otherwise, or if that fails, from the hub."""
    _refuse_offline(entry.name)
    failures: list[str] = []
    if entry.url:
        target = clip_cache() / entry.file
        try:
            _LOG.info("%s: downloading to %s", entry.name, target)
            fetch(entry.url, target, entry.sha256, progress, limit=entry.architecture.largest)
            verify(target, entry.sha256)  # it may be another process's
            return target
        except DownloadError as error:
            failures += error.reasons
    try:
        _LOG.info("%s: downloading from the hub, %s, to %s", entry.name, entry.repos[0], hub_cache())
        return download_folder(entry.repos[0], progress=progress)
    except DownloadError as error:
        raise _unavailable(entry.name, *failures, *error.reasons) from error


def _download_repository(repository: _Repository, progress: Progress | None) -> Path:
    name, revision = repository
    shown = f"hf:{name}" if revision == "main" else f"hf:{name}@{revision}"
    _refuse_offline(shown)
    try:
        _LOG.info("%s: downloading to %s", shown, hub_cache())
        return download_folder(name, revision, progress)
    except DownloadError as error:
        raise _unavailable(shown, *error.reasons) from error


def _refuse_offline(name: str) -> None:
    variable = offline_variable()
    if variable:
        raise _unavailable(name, f"Downloads are switched off: {variable} is set.")


def _unavailable(name: str, *reasons: str) -> DownloadError:
    problem = f"{name} is not in the caches and cannot be downloaded."
    return DownloadError(problem, *reasons, advice=_ADVICE)
