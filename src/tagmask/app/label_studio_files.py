"""Label Studio as a server of images: which of its paths hold images, and the key that it wants."""

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from tagmask.app.addresses import origin_of, split_url
from tagmask.app.fetching import Answer
from tagmask.errors import ImageError, InputError
from tagmask.strict_json import json_text, parse_json

__all__ = ["LOCAL_FILES", "LabelStudioServer", "Send"]

LOCAL_FILES: Final = "/data/local-files/"
"""The path of files on Label Studio's own disk; the query's `d` names the file."""
_IMAGE_PATHS: Final = ("/data/", "/storage-data/")
_TASK_PATHS: Final = ("/tasks/", "/projects/")
_TASK_ENDINGS: Final = ("/resolve", "/presign")
_EARLIER: Final = 20.0
"""Seconds before its end at which an access token is not used any more."""
_SHORTEST: Final = 60.0
"""Seconds that an access token is used if it does not say when it ends."""

Send = Callable[[SplitResult, dict[str, str], bytes | None], Answer]
"""Sends one request to a URL, with headers and perhaps a body."""


@dataclass
class _Access:
    token: str = ""
    until: float = 0.0


@dataclass(frozen=True)
class LabelStudioServer:
    """The Label Studio that tasks come from.

    Two kinds of keys exist. A legacy token is sent as it is. A personal access token, which has the three
    parts of a JWT, is exchanged for an access token that is valid for some minutes.
    """

    url: str
    key: str = field(repr=False, default="")
    _access: _Access = field(default_factory=_Access, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            parts = split_url(self.url)
        except ImageError as error:
            raise InputError(f"{error} Give Label Studio's address, as in http://localhost:8080.") from error
        if parts.query or parts.fragment:
            raise InputError("Label Studio's address has a query. Give it as in http://localhost:8080.")
        if not self.key.isascii() or not self.key.isprintable() or " " in self.key:
            raise InputError("Label Studio's key has characters that a key cannot have. Copy it again.")

    def join(self, path: str) -> str:
        """Return the URL of a path, as tasks have it."""
        parts, prefix = urlsplit(self.url), self._prefix
        below = path if not prefix or path.startswith(f"{prefix}/") else prefix + path
        return f"{parts.scheme}://{parts.netloc}{below}"

    def owns(self, parts: SplitResult) -> bool:
        """Whether a URL is on this server."""
        return origin_of(parts) == origin_of(urlsplit(self.url))

    def local_path(self, path: str) -> str:
        """Return a path of this server without the prefix that its address may have."""
        return path.removeprefix(self._prefix) if path.startswith(f"{self._prefix}/") else path

    def holds_images(self, parts: SplitResult) -> bool:
        """Whether a URL on this server is one of those that it gives to images in tasks."""
        path = self.local_path(parts.path)
        if ".." in path.split("/") or "%2e" in path.lower() or "%2f" in path.lower():
            return False
        if path.startswith(LOCAL_FILES.rstrip("/")):  # read from --local-files-root, never through the server
            return False
        of_task = path.startswith(_TASK_PATHS) and path.rstrip("/").endswith(_TASK_ENDINGS)
        return path.startswith(_IMAGE_PATHS) or of_task

    def headers(self, send: Send, *, renew: bool = False) -> dict[str, str]:
        """Return the header that lets a request in; none without a key.

        Args:
            send: for the request that exchanges a personal access token.
            renew: do so even if the last access token should still be valid.

        Raises:
            ImageError: the key was not accepted.
        """
        if not self.key:
            return {}
        if not self.is_personal:
            return {"Authorization": f"Token {self.key}"}
        with self._lock:
            if renew or time.time() >= self._access.until:
                token = self._exchange(send)
                self._access.token, self._access.until = token, _end(token) - _EARLIER
            return {"Authorization": f"Bearer {self._access.token}"}

    @property
    def is_personal(self) -> bool:
        """Whether the key is a personal access token."""
        return self.key.count(".") == 2

    @property
    def _prefix(self) -> str:
        return urlsplit(self.url).path.rstrip("/")

    def _exchange(self, send: Send) -> str:
        url = split_url(f"{self.url.rstrip('/')}/api/token/refresh/")
        answer = send(url, {}, json_text({"refresh": self.key}).encode())
        try:
            token: Any = parse_json(answer.body)["access"] if answer.status == 200 else None
        except (ValueError, KeyError, TypeError):
            token = None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or " " in token:
            raise ImageError(
                f"Label Studio does not accept LABEL_STUDIO_API_KEY (status {answer.status}). Create a new "
                "personal access token on its account page."
            )
        return token


def _end(token: str) -> float:
    """When an access token ends, in seconds since 1970."""
    try:
        payload = token.split(".")[1]
        return float(parse_json(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])
    except (ValueError, KeyError, IndexError, TypeError):
        return time.time() + _SHORTEST
