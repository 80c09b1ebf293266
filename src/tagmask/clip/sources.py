"""What a user calls weights -> where they lie on this machine; downloaded where a name needs it.

    "miniature"                     the small model inside this package
    "ViT-B-16:openai"               known names (`names`): ~/.cache/clip, then the hub's cache, then the web
    "hf:owner/repo@revision"        the hub's cache, then the hub; open_clip's "hf-hub:" is the same
    anything else                   a path; paths never use the network

Whatever is in a cache is used as it is, without asking the network whether there is something newer.
"""

import logging
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from tagmask.clip.download import Progress, fetch
from tagmask.clip.hub import cached_folder, download_folder, hub_cache, is_offline, split_revision
from tagmask.clip.metadata import OPENAI_MEAN, OPENAI_STD, MetadataClaim
from tagmask.clip.names import KnownWeights, known_weights
from tagmask.errors import DownloadError, InputError, WeightsError

__all__ = ["BUNDLED", "Source", "cached", "clip_cache", "find"]

_LOG = logging.getLogger(__name__)

_HUB: Final = ("hf:", "hf-hub:")
BUNDLED: Final = Path(str(resources.files("tagmask"))) / "miniature" / "miniature.safetensors"
_ELSE: Final = "or give the path of weights, or 'miniature' for the small model that comes with tagmask"
_AGAIN: Final = f"Try again when online, {_ELSE}"


@dataclass(frozen=True)
class Source:
    """Where weights lie, and what their name says of them."""

    path: Path
    """A file or a folder."""
    claim: MetadataClaim | None = None
    known_weights: KnownWeights | None = None
    """What the table of names has; None for paths and other repositories."""


def find(weights: str | os.PathLike[str], progress: Progress | None = None) -> Source:
    """Where weights lie on this machine, after downloading them if a name needs it.

    Args:
        weights: by one of the forms of the module's docstring. A PathLike is always a path, and so is a text
            that is the path of something there.
        progress: called as bytes of a download come.

    Raises:
        DownloadError: they are not here, and cannot be downloaded.
        WeightsError: a name that is not known, or a repository without a CLIP.
        InputError: no text or path.
    """
    here = cached(weights)
    if here is not None:
        return here
    meant = _meant(weights)
    if isinstance(meant, KnownWeights):
        return Source(_download_known(meant, progress), meant.claim, meant)
    if isinstance(meant, _Repository):
        return Source(_download_repository(meant, progress))
    return Source(meant)


def cached(weights: object) -> Source | None:
    """Where weights lie; None if they must be downloaded first. A path is given back as it is, there or not.

    Raises:
        WeightsError: a name that is not known.
        InputError: no text or path.
    """
    meant = _meant(weights)
    if isinstance(meant, KnownWeights):
        found = _cached_known(meant)
        return Source(found, meant.claim, meant) if found else None
    if isinstance(meant, _Repository):
        folder = cached_folder(meant.name, meant.revision)
        return Source(folder) if folder else None
    if meant == BUNDLED:
        return Source(meant, MetadataClaim("tagmask", mean=OPENAI_MEAN, std=OPENAI_STD))
    return Source(meant)


def clip_cache() -> Path:
    """Where OpenAI's package and open_clip keep what they download from elsewhere than the hub.

    Raises:
        WeightsError: there is no home folder.
    """
    try:
        return Path.home() / ".cache" / "clip"
    except RuntimeError as error:
        raise WeightsError(f"there is no home folder to look for weights in: {error}; give a path") from error


class _Repository(NamedTuple):
    """On the hub."""

    name: str
    revision: str


def _meant(weights: object) -> Path | KnownWeights | _Repository:
    if not isinstance(weights, str | os.PathLike):
        raise InputError(
            f"weights are {weights!r}; give a name such as 'ViT-B-16:openai', the path of weights, "
            "or 'miniature'"
        )
    name = os.fspath(weights)
    if not isinstance(weights, str):
        return _expanded(name)
    if name == "miniature":
        return BUNDLED
    for prefix in _HUB:
        if name.startswith(prefix):
            return _Repository(*split_revision(name.removeprefix(prefix)))
    path = _expanded(name.removeprefix("local-dir:"))
    return path if path.exists() else known_weights(name) or path


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise WeightsError(f"{name} cannot be looked for: {error}; give a full path") from error


def _cached_known(entry: KnownWeights) -> Path | None:
    if entry.file and (clip_cache() / entry.file).is_file():
        return clip_cache() / entry.file
    return next(filter(None, map(cached_folder, entry.repos)), None)


def _download_known(entry: KnownWeights, progress: Progress | None) -> Path:
    """From the web by its hash where there is one, else, or where that fails, from the hub."""
    looked = f"looked for {clip_cache() / entry.file}, and " if entry.file else "looked "
    absent = f"{entry.name} is not on this machine: {looked}in {hub_cache()} for {' and '.join(entry.repos)}"
    _stay_offline(absent)
    failures = []
    if entry.url:
        target = clip_cache() / entry.file
        try:
            _LOG.info("%s: downloading to %s", entry.name, target)
            fetch(entry.url, target, entry.sha256, progress)
            return target
        except DownloadError as error:
            failures.append(str(error))
    try:
        _LOG.info("%s: downloading from the hub, %s, to %s", entry.name, entry.repos[0], hub_cache())
        return download_folder(entry.repos[0], progress=progress)
    except DownloadError as error:
        raise DownloadError(f"{absent}; and {'; '.join([*failures, str(error)])}. {_AGAIN}") from error


def _download_repository(repository: _Repository, progress: Progress | None) -> Path:
    name, revision = repository
    absent = f"hf:{name} is not on this machine: looked in {hub_cache()} for its revision {revision}"
    _stay_offline(absent)
    try:
        _LOG.info("hf:%s: downloading to %s", name, hub_cache())
        return download_folder(name, revision, progress)
    except DownloadError as error:
        raise DownloadError(f"{absent}; and {error}. {_AGAIN}") from error


def _stay_offline(absent: str) -> None:
    if is_offline():
        raise DownloadError(f"{absent}; and HF_HUB_OFFLINE forbids to download it. Unset it, {_ELSE}")
