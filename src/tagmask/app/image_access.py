"""Fetch the images that tasks name: from Label Studio, one local folder, and hosts that the user allows.

No other server is ever asked: whoever can create a task could otherwise make this one read what only it can
reach. Each redirect is checked like the first address, and the address that was checked is the one asked.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qs, quote, urljoin, urlsplit

from tagmask.app.addresses import Address, AllowedHost, check_public, origin_of, resolve, split_url
from tagmask.app.fetching import Answer, send
from tagmask.app.label_studio_files import LOCAL_FILES, LabelStudioServer
from tagmask.errors import ImageError
from tagmask.printable import shortened
from tagmask.reading import read_regular
from tagmask.relative_paths import leads_outside

__all__ = ["ImageAccess"]

_MAX_BYTES: Final = 100_000_000
_MAX_TOKEN_BYTES: Final = 100_000
_SECONDS: Final = 30.0
"""For one image, redirects included."""
_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_LONGEST: Final = 8000
"""Characters of an address."""
_URL_CHARACTERS: Final = "!#$%&'()*+,-./:;=?@[]_~"


@dataclass(frozen=True)
class ImageAccess:
    """Where images may come from."""

    label_studio: LabelStudioServer | None = None
    """For addresses without a host, such as those of uploads."""
    local_files_root: Path | None = None
    """The folder of `/data/local-files/?d=...`."""
    allowed_hosts: tuple[AllowedHost, ...] = ()
    resolve: Callable[..., list[Address]] = resolve
    """Returns the addresses of a server."""

    def read(self, location: str) -> bytes:
        """Return the bytes of an image.

        Args:
            location: as it stands in a task's data: a path of Label Studio, or a URL.

        Raises:
            ImageError: it may not be fetched, or cannot be.
        """
        if len(location) > _LONGEST:
            raise ImageError(f"The image's address has more than {_LONGEST} characters.")
        # As browsers do: names may have spaces and any letters.
        location = quote(location.strip(), safe=_URL_CHARACTERS, errors="replace")
        path = _own_path(location, self.label_studio)
        if path is not None and path.startswith(LOCAL_FILES):
            return self._read_local(path)
        if path is None:
            return self._fetch(location)
        if self.label_studio is None:
            raise ImageError(
                f"{_shown(path)} is a path of Label Studio. Set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY."
            )
        return self._fetch(self.label_studio.join(path))

    def _read_local(self, path: str) -> bytes:
        name = parse_qs(urlsplit(path).query).get("d", [""])[0]
        if self.local_files_root is None:
            raise ImageError(f"{shortened(name)} is a local file. Give --local-files-root, its folder.")
        # Label Studio's names may begin with a slash, and are relative all the same.
        relative = name.lstrip("/")
        if leads_outside(relative):
            raise ImageError(f"{shortened(name)} is not below --local-files-root.")
        try:
            root = self.local_files_root.resolve()
            file = (root / relative).resolve()
            if not file.is_relative_to(root):  # through a link
                raise ImageError(f"{shortened(name)} is not below --local-files-root.")
            return read_regular(file, _MAX_BYTES, links=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            reason = getattr(error, "strerror", None) or "it cannot be opened"
            raise ImageError(f"{shortened(name)} below --local-files-root: {reason}.") from error

    def _fetch(self, url: str) -> bytes:
        deadline = time.monotonic() + _SECONDS
        renewed = False
        for _ in range(_MAX_REDIRECTS + 2):
            parts = split_url(url)
            address, is_own = self._permitted(parts)
            headers = self._key(deadline, renew=renewed) if is_own else {}
            answer = send(parts, address, headers, limit=_MAX_BYTES, deadline=deadline)
            if answer.status == 401 and is_own and not renewed and self._can_renew():
                renewed = True
            elif answer.status in _REDIRECTS and answer.location:
                url = urljoin(url, answer.location)
            elif answer.status == 200:
                return answer.body
            else:
                raise ImageError(
                    f"{_shown(url)} answers with status {answer.status}.{_advice(answer, is_own)}"
                )
        raise ImageError(f"{_shown(url)} redirects again and again.")

    def _permitted(self, parts: SplitResult) -> tuple[Address, bool]:
        """Return the address to ask, and whether it is Label Studio's.

        Raises:
            ImageError: the URL may not be fetched.
        """
        origin = origin_of(parts)
        server = self.label_studio
        if server is not None and server.owns(parts):
            if not server.holds_images(parts):
                raise ImageError(
                    f"{_shown(parts.geturl())} is not where Label Studio keeps images. "
                    "If it is a login page, check LABEL_STUDIO_API_KEY."
                )
            return self.resolve(origin)[0], True
        if not any(each.covers(origin) for each in self.allowed_hosts):
            raise ImageError(
                f"The host {shortened(origin.host)}, port {origin.port}, is not allowed. If you trust it, "
                f"give --allow-image-host {shortened(parts.netloc)}."
            )
        named = frozenset(each.host for each in self.allowed_hosts)
        addresses = self.resolve(origin)
        for address in addresses:
            try:
                check_public(address, named)
            except ImageError as error:
                raise ImageError(f"The host {shortened(origin.host)} is refused: {error}") from None
        return addresses[0], False

    def _key(self, deadline: float, *, renew: bool) -> dict[str, str]:
        server = self.label_studio
        assert server is not None  # only asked for its own paths

        def exchange(parts: SplitResult, headers: dict[str, str], body: bytes | None) -> Answer:
            address = self.resolve(origin_of(parts))[0]
            return send(parts, address, headers, limit=_MAX_TOKEN_BYTES, deadline=deadline, body=body)

        return server.headers(exchange, renew=renew)

    def _can_renew(self) -> bool:
        return self.label_studio is not None and self.label_studio.is_personal


def _own_path(location: str, server: LabelStudioServer | None) -> str | None:
    """Return the path of a location on Label Studio; None for another server's."""
    if location.startswith("/") and not location.startswith(("//", "/\\")):
        return location if server is None else server.local_path(location)
    if server is not None and location.startswith(("http://", "https://")):
        parts = split_url(location)
        if server.owns(parts):
            return server.local_path(parts.path) + (f"?{parts.query}" if parts.query else "")
    return None


def _advice(answer: Answer, is_own: bool) -> str:
    if is_own and answer.status in (401, 403):
        return " Set LABEL_STUDIO_API_KEY to a key that may see the project."
    return ""


def _shown(url: str) -> str:
    """A URL without its query, which may hold a signature."""
    return shortened(url.split("?")[0])
