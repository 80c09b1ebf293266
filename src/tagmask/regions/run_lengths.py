"""Run lengths of masks as other tools write them: CVAT's rows inside a box, Label Studio's brush strokes."""

import numpy as np
from jaxtyping import Bool, Int, UInt8

from tagmask.errors import InputError

__all__ = ["brush_mask", "brush_rle", "row_runs", "rows_from_runs"]

_LENGTH_BITS = (3, 4, 8, 16)
"""Sizes of the field of a block's length in Label Studio's brush format, smallest first."""
_WORD = 8
"""Bits of a value in that format."""
_CHANNELS = 4
"""Each pixel stands there four times, as RGBA."""


def row_runs(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, " runs"]:
    """Return the lengths of the runs of equal pixels, row by row: outside first, so the first may be 0.

    Example:
        >>> row_runs(np.array([[True, True, False], [False, True, True]])).tolist()
        [0, 2, 2, 2]
    """
    flat = mask.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], [0] if flat[:1].any() else [], changes, [flat.size]]).astype(np.int64)
    return np.diff(edges)


def rows_from_runs(runs: Int[np.ndarray, " runs"], size: tuple[int, int]) -> Bool[np.ndarray, "_ _"]:
    """Return the mask of `row_runs`.

    Raises:
        InputError: a run is negative, or they do not add up to the size (h, w).
    """
    pixels = size[0] * size[1]
    if (runs < 0).any() or (runs > pixels).any() or int(runs.sum()) != pixels:
        raise InputError(f"The run lengths do not add up to the mask's {size[1]} x {size[0]} pixels.")
    inside = np.arange(len(runs)) % 2 == 1
    mask: Bool[np.ndarray, "_ _"] = np.repeat(inside, runs).reshape(size)
    return mask


def brush_rle(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """Encode a mask as Label Studio's brush does: a stream of bits, as bytes.

    Source:
        label-studio-sdk 2.1.2, converter/brush.py, decoded by it to the same mask.
    """
    runs = row_runs(mask) * _CHANNELS
    values = (np.arange(len(runs)) % 2) * 255
    longest = 1 << _LENGTH_BITS[-1]
    pieces = -(-runs // longest)
    value = np.repeat(values, pieces)
    length = np.full(len(value), longest)
    has = runs > 0
    length[np.cumsum(pieces)[has] - 1] = runs[has] - (pieces[has] - 1) * longest

    limits = np.array([1 << bits for bits in _LENGTH_BITS])
    index = np.searchsorted(limits, length)
    bits = np.array(_LENGTH_BITS)[index]
    # A block: 1 (a run), two bits for the size of the length, the length less one, the value.
    code = ((1 << 2 | index) << bits | length - 1) << _WORD | value
    width = 1 + 2 + bits + _WORD
    header = f"{mask.size * _CHANNELS:032b}{_WORD - 1:05b}" + "".join(f"{b - 1:04b}" for b in _LENGTH_BITS)
    body = _bits(code, width)
    whole = np.concatenate([np.frombuffer(header.encode(), np.uint8) - ord("0"), body])
    padded = np.pad(whole, (0, 8 - len(whole) % 8))
    encoded: list[int] = np.packbits(padded).tolist()
    return encoded


def brush_mask(rle: Int[np.ndarray, " bytes"], size: tuple[int, int]) -> Bool[np.ndarray, "_ _"]:
    """Decode Label Studio's brush format.

    Args:
        rle: bytes, 0..255, of any writer: runs and literal values.
        size: (h, w) of the mask.

    Returns:
        The pixels whose opacity is not 0.

    Raises:
        InputError: the bytes are not in that format, or the mask has another size.
    """
    wrong = InputError("The brush mask cannot be decoded. Expected Label Studio's RLE, a list of bytes.")
    if rle.ndim != 1 or (rle < 0).any() or (rle > 255).any():
        raise wrong
    stream = _Bits(np.unpackbits(rle.astype(np.uint8)))
    try:
        count, word = stream.read(32), stream.read(5) + 1
        sizes = [stream.read(4) + 1 for _ in range(4)]
        if count != size[0] * size[1] * _CHANNELS or word != _WORD:
            raise wrong
        values, done = np.zeros(count, np.uint8), 0
        while done < count:
            is_run = stream.read(1)
            length = stream.read(sizes[stream.read(2)]) + 1
            if done + length > count:
                raise wrong
            values[done : done + length] = stream.read(word) if is_run else stream.read_words(length, word)
            done += length
    except IndexError as error:
        raise wrong from error
    opaque: Bool[np.ndarray, "_ _"] = values.reshape(*size, _CHANNELS)[..., -1] > 0
    return opaque


class _Bits:
    """Reads whole numbers from a stream of bits, most significant first."""

    def __init__(self, bits: UInt8[np.ndarray, " n"]) -> None:
        self._bits, self._at = bits, 0

    def read(self, width: int) -> int:
        """Return the next number; IndexError at the end of the stream."""
        return int(self.read_words(1, width)[0])

    def read_words(self, count: int, width: int) -> Int[np.ndarray, " count"]:
        """Return the next numbers, each of `width` bits."""
        end = self._at + count * width
        if end > len(self._bits):
            raise IndexError
        bits = self._bits[self._at : end].reshape(count, width)
        self._at = end
        words: Int[np.ndarray, " count"] = (bits.astype(np.int64) << np.arange(width)[::-1]).sum(axis=1)
        return words


def _bits(codes: Int[np.ndarray, " n"], widths: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, " bits"]:
    """Return the bits of codes of different widths, one code after the other, most significant bit first."""
    code = np.repeat(codes, widths)
    ends = np.cumsum(widths)
    place = np.repeat(ends, widths) - 1 - np.arange(ends[-1] if len(ends) else 0)
    bits: UInt8[np.ndarray, " bits"] = (code >> place & 1).astype(np.uint8)
    return bits
