"""Limits of requests, and their defaults, which the command line shows too."""

from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_BODY", "PhotoLimits"]

MAX_BODY: Final = 64_000_000
"""Bytes of a request. Label Studio sends tasks with all their annotations."""


@dataclass(frozen=True)
class PhotoLimits:
    """What one request may ask for, and how many may wait."""

    pixels: int = 24_000_000
    """Of an image; it is known before the image is decoded."""
    words: int = 200
    waiting: int = 16
    """Requests that wait or are computed; more are refused."""
    seconds: float = 90.0
    """Until a request that waits is refused."""
