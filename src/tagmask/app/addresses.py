"""Which servers may be asked for images, and at which addresses."""

import ipaddress
import socket
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

from tagmask.errors import ImageError, InputError
from tagmask.printable import shortened

__all__ = [
    "Address",
    "AllowedHost",
    "Origin",
    "check_public",
    "origin_of",
    "parse_allowed_host",
    "resolve",
    "split_url",
]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_PORTS: Final = {"http": 80, "https": 443}
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv6 addresses that a gateway translates to the IPv4 address in their last bytes."""


@dataclass(frozen=True)
class Origin:
    """A server: scheme, host in lower case, port."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True)
class AllowedHost:
    """A host that may be asked for images."""

    host: str
    """A name or an address, in lower case."""
    port: int | None
    """None: the scheme's own port, 80 or 443."""

    def covers(self, origin: Origin) -> bool:
        """Whether this is the host and port of a server."""
        return origin.host == self.host and origin.port == (self.port or _PORTS[origin.scheme])


def parse_allowed_host(text: str) -> AllowedHost:
    """Parse HOST, HOST:PORT, ADDRESS or [ADDRESS]:PORT.

    Raises:
        InputError: the text is not an address of one of these forms.

    Example:
        >>> parse_allowed_host("Images.example.com"), parse_allowed_host("[::1]:9000")
        (AllowedHost(host='images.example.com', port=None), AllowedHost(host='::1', port=9000))
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        return AllowedHost(str(address), None)
    wrong = InputError(
        f"Invalid host {shortened(text)!r}. Give HOST or HOST:PORT, without http:// or a path."
    )
    try:
        parts = split_url(f"http://{text}")
        port = parts.port
    except (ImageError, ValueError) as error:
        raise wrong from error
    if parts.path or parts.query or parts.fragment:
        raise wrong
    return AllowedHost(_host(parts), port)


def split_url(url: str) -> SplitResult:
    """Split the URL of an image.

    Raises:
        ImageError: it is not an http or https URL, or has characters or parts on whose meaning programs
            disagree.
    """
    if not url.isascii() or any(c <= " " or c in '\\"<>^`{|}\x7f' for c in url):
        raise ImageError(f"The address {shortened(url)!r} has characters that a URL cannot have.")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ImageError(f"The address {shortened(url)!r} is no valid URL: {error}.") from error
    if not valid or "@" in parts.netloc or "%" in parts.netloc:
        raise ImageError(f"The address {shortened(url)!r} is not of the form http[s]://HOST[:PORT]/PATH.")
    return parts


def origin_of(parts: SplitResult) -> Origin:
    """Return the server of a URL from `split_url`."""
    return Origin(parts.scheme, _host(parts), parts.port or _PORTS[parts.scheme])


def resolve(origin: Origin) -> list[Address]:
    """Return the addresses of a server.

    Raises:
        ImageError: it has none.
    """
    try:
        found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        return [ipaddress.ip_address(str(entry[4][0]).split("%")[0]) for entry in found]
    except (OSError, ValueError) as error:
        raise ImageError(f"The host {shortened(origin.host)} has no address: {error}.") from error


def check_public(address: Address, named: frozenset[str]) -> None:
    """Check that an address is on the public internet, or that the user named it.

    Raises:
        ImageError: it is private, loopback, link-local or otherwise special.
    """
    if str(address) not in named and not _is_public(address):
        raise ImageError(
            f"it is at {address}, which is not on the public internet. If you trust it, also give "
            f"--allow-image-host {address}."
        )


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        embedded = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _TRANSLATED:
            embedded.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        inner = [each for each in embedded if each is not None]
        if inner:
            return all(_is_public(each) for each in inner)
    return address.is_global and not address.is_multicast


def _host(parts: SplitResult) -> str:
    """The host in one spelling: "[0:0::1]" and "::1" are the same."""
    host = (parts.hostname or "").rstrip(".")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host
