"""Shards: a stable part of the images for each of several machines."""

import hashlib
import re
from dataclasses import dataclass

from tagmask.errors import InputError

__all__ = ["Shard", "parse_shard"]


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1."""

    index: int
    count: int

    def takes(self, key: str) -> bool:
        """Whether an image belongs to this part: by a hash of its key, whatever else is in the listing."""
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Read `2/8`: the second of eight parts.

    Raises:
        InputError: it is written otherwise, or there is no such part.

    Example:
        >>> parse_shard("2/8")
        Shard(index=2, count=8)
    """
    parts = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
    if parts is not None and 1 <= int(parts[1]) <= int(parts[2]):
        return Shard(int(parts[1]), int(parts[2]))
    raise InputError(f"--shard is {text!r}; give PART/PARTS, from 1/8 to 8/8 for eight machines")
