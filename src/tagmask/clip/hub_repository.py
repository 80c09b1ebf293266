"""Download a repository's files from the Hugging Face hub into the hub's cache, as `huggingface_hub` does.

    models--OWNER--REPO/blobs/HASH                 the files
                        snapshots/COMMIT/NAME      links to them
                        refs/REVISION              the commit of a branch or tag

The files are downloaded here, not by `huggingface_hub`, because a server must not choose where they are
written, how large they are, or whether they are checked. What the server names is used only if it has the
form of a hash.
"""

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote

from tagmask.clip.download import Progress, fetch
from tagmask.clip.verified import verify
from tagmask.clip.web import Headers, TransferError, get_bytes, head, parse_length
from tagmask.errors import DownloadError, InputError
from tagmask.files import unwritable, write_bytes
from tagmask.strict_json import parse_json

__all__ = ["HubRepository", "hub_cache"]

_ENDPOINT: Final = "https://huggingface.co"
_INFO_LIMIT: Final = 64_000_000
_CONFIG_LIMIT: Final = 16_000_000
_WEIGHTS_LIMIT: Final = 50_000_000_000
"""Limits in bytes: the list of a repository's files, one of its JSON files, one of its weights files."""
_SHA256: Final = re.compile("[0-9a-f]{64}")
_COMMIT: Final = re.compile("[0-9a-f]{40}")


def hub_cache(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the hub's cache, as `huggingface_hub` does, but read the environment on each call.

    Raises:
        InputError: no variable is set and there is no home folder.
    """
    env = os.environ if environ is None else environ
    direct = env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE")
    xdg = env.get("XDG_CACHE_HOME")
    home = env.get("HF_HOME") or (f"{xdg}/huggingface" if xdg else "~/.cache/huggingface")
    try:
        return Path(os.path.expandvars(direct or f"{home}/hub")).expanduser()
    except RuntimeError as error:
        raise InputError(
            "Cannot find the hub's cache: there is no home folder. Set HF_HOME to a folder."
        ) from error


@dataclass(frozen=True)
class HubRepository:
    """A repository at one commit."""

    repo: str
    revision: str
    commit: str
    names: frozenset[str]
    """Its files."""
    endpoint: str
    headers: Headers

    @classmethod
    def find(cls, repo: str, revision: str) -> "HubRepository":
        """Ask the hub for a repository's commit and files.

        Raises:
            TransferError: no answer, or none that names a commit and files.
        """
        endpoint = (os.environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")
        headers = _headers()
        url = f"{endpoint}/api/models/{repo}/revision/{quote(revision, safe='')}"
        data = get_bytes(url, _INFO_LIMIT, headers)
        try:
            info = parse_json(data)
            commit = info["sha"]
            names = frozenset(str(sibling["rfilename"]) for sibling in info.get("siblings") or ())
            if not _COMMIT.fullmatch(commit):
                raise ValueError("its commit is no hash")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TransferError("it does not answer as a hub") from error
        return cls(repo, revision, commit, names, endpoint, headers)

    def get_config(self, name: str) -> Path:
        """Download a JSON file; return its path in the cache.

        Raises:
            TransferError: it cannot be downloaded, or is damaged.
            OutputError: the cache cannot be written.
        """
        tag, _ = self._metadata(name)
        data = get_bytes(self._url(name), _CONFIG_LIMIT, self.headers)
        digest = hashlib.sha256(data).hexdigest()
        if _SHA256.fullmatch(tag) and tag != digest:
            raise TransferError(f"{name} has the wrong SHA-256: {digest[:12]}…, expected {tag[:12]}…")
        # The hub names small files by their hash in Git.
        blob = self._blobs / (tag if _COMMIT.fullmatch(tag) else digest)
        write_bytes(blob, data)
        return self._link(name, blob)

    def get_weights(self, name: str, progress: Progress | None) -> Path:
        """Download a weights file, unless it is in the cache; return its path there.

        Raises:
            TransferError: the hub does not answer.
            DownloadError: it gives no SHA-256, the file is no plain name of the repository, or it cannot be
                downloaded.
            WeightsError: the file has another hash.
            OutputError: the cache cannot be written.
        """
        if name not in self.names or PurePosixPath(name).name != name:
            raise DownloadError(f"{self.repo} has no file {name[:80]!r}, which its index names.")
        tag, size = self._metadata(name)
        if not _SHA256.fullmatch(tag):
            raise DownloadError(
                f"Cannot download {name} of {self.repo}: the server gives no SHA-256, so damage could not be "
                "noticed. Download the file yourself and give its path."
            )
        blob = self._blobs / tag
        limit = _WEIGHTS_LIMIT if size is None else min(size, _WEIGHTS_LIMIT)
        fetch(self._url(name), blob, tag, progress, limit=limit, name=name, headers=self.headers)
        verify(blob, tag)
        return self._link(name, blob)

    def finish(self) -> None:
        """Record the revision's commit, so that the cache is found by the revision's name.

        Raises:
            OutputError: the cache cannot be written.
        """
        if self.revision != self.commit:
            write_bytes(self._folder / "refs" / self.revision, self.commit.encode())

    @property
    def _folder(self) -> Path:
        return hub_cache() / f"models--{self.repo.replace('/', '--')}"

    @property
    def _blobs(self) -> Path:
        return self._folder / "blobs"

    def _url(self, name: str) -> str:
        return f"{self.endpoint}/{self.repo}/resolve/{quote(self.revision, safe='')}/{quote(name)}"

    def _metadata(self, name: str) -> tuple[str, int | None]:
        """The hash that the hub gives for a file, and its size."""
        headers = head(self._url(name), self.headers)
        commit = headers.get("X-Repo-Commit")
        if commit is not None and commit != self.commit:
            raise TransferError("it changed during the download; try again")
        tag = headers.get("X-Linked-Etag") or headers.get("ETag") or ""
        linked = headers.get("X-Linked-Size")
        # Where the hub redirects, its own length is that of the redirect.
        length = None if headers.get("Location") else headers.get("Content-Length")
        return tag.removeprefix("W/").strip('"'), parse_length(linked or length)

    def _link(self, name: str, blob: Path) -> Path:
        """Give a blob its name in the snapshot, replacing what is there."""
        target = self._folder / "snapshots" / self.commit / name
        part = target.with_name(f".tagmask-{secrets.token_hex(8)}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                part.symlink_to(os.path.relpath(blob, target.parent))
            except OSError:  # a file system without links
                shutil.copyfile(blob, part)
            part.replace(target)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise unwritable(target, error) from error
        return target


def _headers() -> Headers:
    """Headers with the user's token, as for the hub's own client; the token is for the hub alone."""
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_DISABLE_IMPLICIT_TOKEN

    token = None if HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return Headers({"User-Agent": "tagmask"}, {"Authorization": f"Bearer {token}"} if token else {})
