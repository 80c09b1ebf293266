"""Change bytes without knowing what they are: what a bad disk, a cut download or a text editor does.

A mutator takes a file, other files of its kind and a source of randomness, and returns a new file.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

__all__ = ["BYTES", "MAX_SIZE", "Mutator", "hostile_number", "mutate_bytes"]

Mutator: TypeAlias = Callable[[bytes, Sequence[bytes], Random], bytes]
"""File, other files of the same kind, randomness -> file."""

_LIMITS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
MAX_SIZE = 1 << 25
"""Inputs are no larger, in bytes."""


def hostile_number(rng: Random, width: int, near: int = 0) -> int:
    """Return a number that sizes and offsets are often not checked for, below 256 ** width.

    Args:
        rng: randomness.
        width: of the field, in bytes.
        near: a size that the field may mean, such as the file's.
    """
    kind = rng.randrange(4)
    if kind == 0:
        number = rng.choice(_LIMITS)
    elif kind == 1:
        number = near + rng.randint(-4, 4)
    elif kind == 2:
        number = 1 << rng.randrange(8 * width)
    else:
        number = rng.getrandbits(8 * width)
    return int(number % (1 << 8 * width))


def flip_bits(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Flip one to sixteen bits."""
    changed = bytearray(data)
    for _ in range(1 << rng.randrange(5)):
        changed[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Overwrite a few bytes with random ones, or with all zeros or ones."""
    at, length = _place(data, rng), 1 << rng.randrange(7)
    filling = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return (data[:at] + filling + data[at + length :])[: max(len(data), 1)]


def set_field(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Write a hostile number over a field of 1, 2, 4 or 8 bytes, in either byte order."""
    at, width = _place(data, rng), rng.choice((1, 2, 4, 4, 8))
    number = hostile_number(rng, width, len(data))
    field = number.to_bytes(width, rng.choice(("little", "big")))
    return data[:at] + field + data[at + width :]


def truncate(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Cut the file anywhere."""
    return data[: _place(data, rng)]


def extend(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Append random bytes or zeros."""
    length = 1 << rng.randrange(12)
    return data + rng.choice((bytes(length), rng.randbytes(length)))


def remove(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Remove a range of bytes."""
    start, stop = _range(data, rng)
    return data[:start] + data[stop:]


def repeat(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Repeat a range of bytes."""
    start, stop = _range(data, rng)
    times = min(1 << rng.randrange(8), MAX_SIZE // (stop - start + 1) + 1)
    return data[:start] + data[start:stop] * times + data[stop:]


def swap(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Swap two neighbouring ranges."""
    first, second = sorted((_place(data, rng), _place(data, rng)))
    third = rng.randint(second, len(data))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


def splice(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Begin as this file and end as another one."""
    other = rng.choice(others)
    if rng.random() < 0.5:
        at = _place(data, rng)
        return data[:at] + other[at:]
    return data[: _place(data, rng)] + other[_place(other, rng) :]


BYTES: tuple[Mutator, ...] = (
    flip_bits, overwrite, set_field, set_field, truncate, extend, remove, repeat, swap, splice,
)  # fmt: skip


def mutate_bytes(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Apply one of these mutators."""
    return rng.choice(BYTES)(data, others, rng) if data else rng.choice(others)


def _place(data: bytes, rng: Random) -> int:
    """Return an offset; of long files more often one of the first and last bytes, where headers are."""
    if not data:
        return 0
    zone = rng.randrange(4)
    if zone == 0:
        return rng.randrange(min(len(data), 64))
    if zone == 1:
        return rng.randrange(min(len(data), 4096))
    if zone == 2:
        return rng.randrange(max(0, len(data) - 4096), len(data))
    return rng.randrange(len(data))


def _range(data: bytes, rng: Random) -> tuple[int, int]:
    start = _place(data, rng)
    return start, min(len(data), start + (1 << rng.randrange(13)))
