"""Folders of the Hugging Face hub: from its cache without the network, else downloaded into that cache.

    HF_HUB_CACHE, else HF_HOME/hub, else XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub
    HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE    never use the network

`huggingface_hub` is imported when it is needed only. It resumes downloads and keeps files by their hash.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tagmask.clip import hugging_face, open_clip
from tagmask.clip.download import Progress, sha256_of
from tagmask.clip.folders import describe, weights_files
from tagmask.errors import DownloadError, InputError, WeightsError

__all__ = [
    "cached_folder",
    "download_folder",
    "hub_cache",
    "is_offline",
    "published_sha256",
    "split_revision",
]

_TRUE: Final = frozenset({"1", "ON", "YES", "TRUE"})
_SHA256: Final = re.compile("[0-9a-f]{64}")
_NAME: Final = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)


def hub_cache(environ: Mapping[str, str] | None = None) -> Path:
    """Where the hub's files are kept, as `huggingface_hub` finds it, but read anew each time.

    Raises:
        InputError: no variable says it and there is no home folder.
    """
    env = os.environ if environ is None else environ
    direct = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")
    xdg = env.get("XDG_CACHE_HOME")
    home = env.get("HF_HOME") or (f"{xdg}/huggingface" if xdg else "~/.cache/huggingface")
    try:
        return Path(os.path.expandvars(direct or f"{home}/hub")).expanduser()
    except RuntimeError as error:
        raise InputError(
            "There is no home folder to look for weights in. Set HF_HOME to a folder."
        ) from error


def is_offline(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the user wants no network to be used."""
    env = os.environ if environ is None else environ
    said = env.get("HF_HUB_OFFLINE") or env.get("TRANSFORMERS_OFFLINE") or ""
    return said.upper() in _TRUE


def split_revision(text: str) -> tuple[str, str]:
    """Take "owner/repo" or "owner/repo@revision" apart; the revision is "main" where none is given.

    Raises:
        InputError: no such form.

    Example:
        >>> split_revision("openai/clip-vit-base-patch16@57c2164")
        ('openai/clip-vit-base-patch16', '57c2164')
    """
    repo, _, revision = text.partition("@")
    if not _NAME.fullmatch(repo) or "--" in repo or ".." in revision or text.endswith("@"):
        raise InputError(f"hf:{text} names no repository; give hf:OWNER/REPO, or hf:OWNER/REPO@REVISION")
    return repo, revision or "main"


def cached_folder(repo: str, revision: str = "main") -> Path | None:
    """The folder of a repository in the hub's cache, if a CLIP's weights are there in full.

    Never uses the network. Raises WeightsError for a folder that describes another kind of model.
    """
    from huggingface_hub import try_to_load_from_cache

    for config in (open_clip.CONFIG, hugging_face.CONFIG):
        found = try_to_load_from_cache(repo, config, cache_dir=hub_cache(), revision=revision)
        if isinstance(found, str):
            folder = Path(found).parent
            return folder if weights_files(folder) else None
    return None


def download_folder(repo: str, revision: str = "main", progress: Progress | None = None) -> Path:
    """Bring a repository's description and weights into the hub's cache.

    The description comes first and is checked, so that no weights of another kind of model are downloaded.

    Args:
        repo: "owner/repo".
        revision: a branch, tag or commit.
        progress: called as bytes come.

    Returns:
        The folder in the cache.

    Raises:
        DownloadError: the hub cannot be reached, or does not give the repository.
        WeightsError: the repository holds no CLIP that is read here, or a file came damaged.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    from tagmask.clip.hub_progress import silent_bar

    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        listed = HfApi(endpoint=endpoint).model_info(repo, revision=revision)
        names = {sibling.rfilename for sibling in listed.siblings or ()}

        def get(name: str) -> Path:
            path = hf_hub_download(
                repo,
                name,
                revision=revision,
                cache_dir=hub_cache(),
                endpoint=endpoint,
                library_name="tagmask",
                tqdm_class=silent_bar(name, progress),
            )
            return Path(path)

        description = _description(repo, names)
        folder, *_ = [get(name).parent for name in description]
        describe(folder)
        name = _weights(repo, description[0], names)
        parts = hugging_face.shards(get(name)) if name in hugging_face.INDEXES else [name]
        for part in parts:
            _check_hash(repo, get(part))
    except WeightsError:
        raise
    # Whatever the hub's client and its HTTP library raise, the user has one thing to know.
    except Exception as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        raise DownloadError(f"{repo} cannot be had from the hub: {_reason(error, status)}") from error
    if not weights_files(folder):
        raise DownloadError(f"{repo} changed while it was downloaded; try again")
    return folder


def published_sha256(file: Path) -> str:
    """The hash that the hub gave for a file of its cache; "" where it gave none, as for small files.

    In the cache a file is a link, named by its hash if it is one of the large ones.
    """
    name = file.readlink().name if file.is_symlink() else ""
    return name if _SHA256.fullmatch(name) else ""


def _check_hash(repo: str, file: Path) -> None:
    wanted = published_sha256(file)
    found = sha256_of(file) if wanted else wanted
    if found != wanted:
        file.resolve().unlink()
        file.unlink()
        raise WeightsError(
            f"{file.name} of {repo} did not come as the hub has it: its sha256 is {found[:12]}… instead of "
            f"{wanted[:12]}…. It was removed; try again, or another network."
        )


def _description(repo: str, names: set[str]) -> list[str]:
    """The JSON files to get, the one that matters first."""
    if open_clip.CONFIG in names and names.intersection(open_clip.WEIGHTS):
        return [open_clip.CONFIG]
    if hugging_face.CONFIG in names:
        return [hugging_face.CONFIG, *(name for name in hugging_face.SIDE_FILES if name in names)]
    raise WeightsError(
        f"hf:{repo} holds neither {open_clip.CONFIG} with weights nor {hugging_face.CONFIG}: "
        f"{', '.join(sorted(names)[:4]) or 'nothing'} ({len(names)} files). It is no CLIP of these two forms."
    )


def _weights(repo: str, config: str, names: set[str]) -> str:
    """The weights file to get, or the index of its shards."""
    if config == open_clip.CONFIG:
        wanted: tuple[str, ...] = open_clip.WEIGHTS
    else:
        pairs = zip(hugging_face.WEIGHTS, hugging_face.INDEXES, strict=True)
        wanted = tuple(name for pair in pairs for name in pair)
    found = [name for name in wanted if name in names]
    if not found:
        raise WeightsError(f"hf:{repo} holds no weights of PyTorch's ({', '.join(wanted)}).")
    return found[0]


def _reason(error: Exception, status: int | None) -> str:
    kind = type(error).__name__
    if kind == "GatedRepoError":
        return "it is gated; accept its terms on its page, then log in with `hf auth login`"
    if kind == "RepositoryNotFoundError":
        return "there is no such repository, or it is private (then log in with `hf auth login`)"
    if kind == "RevisionNotFoundError":
        return "there is no such revision"
    if status is not None:
        return f"it answers {status}"
    lines = re.sub(r"\s*\(?https?://\S+", "", str(error)).strip().splitlines()
    return f"{kind}: {lines[0][:160]}" if lines else kind
