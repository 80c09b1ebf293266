"""Split images into batches."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

__all__ = ["batches", "stream_batches"]

_BATCH_SIZE = 8
"""Images read and processed at once."""

Item = TypeVar("Item")


def batches(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Split a sequence."""
    return [items[start : start + _BATCH_SIZE] for start in range(0, len(items), _BATCH_SIZE)]


def stream_batches(items: Iterable[Item]) -> Iterator[Sequence[Item]]:
    """Split any iterable, which may be longer than memory."""
    remaining = iter(items)
    while batch := list(islice(remaining, _BATCH_SIZE)):
        yield batch
