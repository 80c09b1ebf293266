"""Find repositories in the Hugging Face hub's cache, or download them into it.

    HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub
    HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE    never use the network

`huggingface_hub` is imported only when needed.
"""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from tagmask.clip import hugging_face, open_clip
from tagmask.clip.download import Progress
from tagmask.clip.folders import read_config, weights_files
from tagmask.clip.hub_repository import HubRepository, hub_cache
from tagmask.clip.web import TransferError
from tagmask.errors import DownloadError, InputError, WeightsError

__all__ = [
    "cached_folder",
    "download_folder",
    "hub_cache",
    "offline_variable",
    "published_sha256",
    "split_revision",
]

_TRUE: Final = frozenset({"1", "ON", "YES", "TRUE"})
_SHA256: Final = re.compile("[0-9a-f]{64}")
_REVISION: Final = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)
_NAME: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def offline_variable(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the name of the environment variable that forbids the network, or None if it is allowed."""
    env = os.environ if environ is None else environ
    name = "HF_HUB_OFFLINE" if env.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
    return name if env.get(name, "").upper() in _TRUE else None


def split_revision(text: str) -> tuple[str, str]:
    """Split "owner/repo" or "owner/repo@revision"; the default revision is "main".

    Raises:
        InputError: the text has another form.

    Example:
        >>> split_revision("openai/clip-vit-base-patch16@57c2164")
        ('openai/clip-vit-base-patch16', '57c2164')
    """
    repo, _, revision = text.partition("@")
    valid = _NAME.fullmatch(repo) and "--" not in repo and _REVISION.fullmatch(revision or "main")
    if not valid or ".." in revision or text.endswith("@"):
        raise InputError(f"Invalid repository 'hf:{text}'. Use hf:OWNER/REPO or hf:OWNER/REPO@REVISION.")
    return repo, revision or "main"


def cached_folder(repo: str, revision: str = "main") -> Path | None:
    """Return a repository's folder in the hub's cache if it holds complete CLIP weights, else None.

    Never uses the network.

    Raises:
        WeightsError: the config, or the index of the shards, is invalid.
    """
    from huggingface_hub import try_to_load_from_cache

    for config in (open_clip.CONFIG, hugging_face.CONFIG):
        path = try_to_load_from_cache(repo, config, cache_dir=hub_cache(), revision=revision)
        if isinstance(path, str):
            folder = Path(path).parent
            return folder if weights_files(folder) else None
    return None


def download_folder(repo: str, revision: str = "main", progress: Progress | None = None) -> Path:
    """Download a repository's config and weights into the hub's cache.

    The config is downloaded and checked first, so that no weights of another kind of model are downloaded.

    Args:
        repo: "owner/repo".
        revision: a branch, tag or commit.
        progress: called as bytes arrive.

    Returns:
        The folder in the cache.

    Raises:
        DownloadError: the hub cannot be reached, refuses, or sends too much, too slowly or without a hash.
        WeightsError: the repository holds no supported CLIP, or a file arrived damaged.
    """
    try:
        remote = HubRepository.find(repo, revision)
        configs = _config_names(repo, remote.names)
        folder, *_ = [remote.get_config(name).parent for name in configs]
        read_config(folder)
        name = _weights_name(repo, configs[0], remote.names)
        sharded = name in hugging_face.INDEXES
        parts = hugging_face.shard_files(remote.get_config(name)) if sharded else (name,)
        for part in parts:
            remote.get_weights(part, progress)
        remote.finish()
    except TransferError as error:
        raise DownloadError(f"Cannot download {repo} from the hub: {_reason(error)}.") from error
    if not weights_files(folder):
        raise DownloadError(f"{repo} changed during the download. Try again.")
    return folder


def published_sha256(file: Path) -> str:
    """Return the SHA-256 that the hub published for a file of its cache; "" if none, as for small files.

    A file in the cache is a link; the link target of a large file is named by its hash.
    """
    name = file.readlink().name if file.is_symlink() else ""
    return name if _SHA256.fullmatch(name) else ""


def _config_names(repo: str, names: Collection[str]) -> list[str]:
    """List the JSON files to download, the main config first."""
    if open_clip.CONFIG in names and any(name in names for name in open_clip.WEIGHTS):
        return [open_clip.CONFIG]
    if hugging_face.CONFIG in names:
        return [hugging_face.CONFIG, *(name for name in hugging_face.OPTIONAL_CONFIGS if name in names)]
    shown = ", ".join(name[:80] for name in sorted(names)[:4]) or "none"
    raise WeightsError(
        f"hf:{repo} is not an open_clip or Hugging Face CLIP: it has neither {open_clip.CONFIG} with weights "
        f"nor {hugging_face.CONFIG}. Its {len(names)} files: {shown}."
    )


def _weights_name(repo: str, config: str, names: Collection[str]) -> str:
    """Return the name of the weights file to download, or of the index of its shards."""
    if config == open_clip.CONFIG:
        supported: tuple[str, ...] = open_clip.WEIGHTS
    else:
        pairs = zip(hugging_face.WEIGHTS, hugging_face.INDEXES, strict=True)
        supported = tuple(name for pair in pairs for name in pair)
    present = [name for name in supported if name in names]
    if not present:
        raise WeightsError(f"hf:{repo} has no PyTorch weights. Expected one of {', '.join(supported)}.")
    return present[0]


def _reason(error: TransferError) -> str:
    if error.code == "GatedRepo":
        return "it is gated, so accept its terms on its page, then log in with `hf auth login`"
    if error.code == "RevisionNotFound":
        return "no such revision"
    if error.code == "RepoNotFound" or error.status == 401:
        return "no such repository, or it is private (then log in with `hf auth login`)"
    return str(error)
