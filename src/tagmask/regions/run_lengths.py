"""Run lengths of masks as other tools write them, and spans of pixels.

Formats: CVAT's rows inside a box, COCO's columns, Label Studio's brush strokes.
"""

import numpy as np
from jaxtyping import Bool, Int, UInt8

from tagmask.errors import InputError

__all__ = [
    "brush_mask",
    "brush_rle",
    "brush_spans",
    "mask_from_columns",
    "mask_spans",
    "region_brush_rle",
    "row_runs",
    "rows_from_runs",
]

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


def mask_from_columns(
    runs: Int[np.ndarray, " runs"], size: tuple[int, int]
) -> tuple[Bool[np.ndarray, "h columns"], int]:
    """Decode COCO's run lengths: column by column, outside first.

    Args:
        runs: lengths, which add up to the size's pixels.
        size: (h, w) of the mask.

    Returns:
        The columns from the region's first to its last, and the first one's number; no columns if the region
        is empty.

    Example:
        >>> mask, left = mask_from_columns(np.array([3, 1, 2]), (2, 3))
        >>> mask.tolist(), left
        ([[False], [True]], 1)
    """
    height = size[0]
    ends = np.cumsum(runs)
    inside = ends[: len(ends) // 2 * 2]  # without the last run if it lies outside
    if not len(inside):
        return np.zeros((height, 0), bool), 0
    first, last = int(inside[0]), int(inside[-1])
    left, right = first // height, -(-last // height)
    lengths = runs[: len(inside)].copy()
    lengths[0] -= left * height
    lengths = np.append(lengths, right * height - last)
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    mask: Bool[np.ndarray, "h columns"] = flat.reshape(right - left, height).T
    return mask, left


def mask_spans(
    mask: Bool[np.ndarray, "h w"], top: int, left: int, width: int
) -> tuple[Int[np.ndarray, " spans"], Int[np.ndarray, " spans"]]:
    """Return the spans of pixels of a region, counted row by row in its image.

    Args:
        mask: the pixels inside the region's box.
        top: first row of the box.
        left: first column of the box.
        width: of the image.

    Returns:
        The first pixel of each span, and the one after its last; ascending, none empty, none touching.

    Example:
        >>> mask_spans(np.array([[True, True], [True, False]]), 1, 0, 2)
        (array([2]), array([5]))
    """
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).view(np.int8), axis=1)
    (y, x), (_, x_end) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    row = (top + y) * width + left
    return _joined(row + x, row + x_end)


def brush_rle(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """Encode a mask as Label Studio's brush does: a stream of bits, as bytes.

    Source:
        label-studio-sdk 2.1.2, converter/brush.py, decoded by it to the same mask.
    """
    return _encoded(row_runs(mask))


def region_brush_rle(mask: Bool[np.ndarray, "h w"], top: int, left: int, size: tuple[int, int]) -> list[int]:
    """Encode the mask of a region inside its box, as `brush_rle` does that of the whole image.

    Args:
        mask: the pixels inside the box.
        top: first row of the box.
        left: first column of the box.
        size: (h, w) of the image.

    Example:
        >>> region_brush_rle(np.ones((1, 1), bool), 0, 1, (1, 2)) == brush_rle(np.array([[False, True]]))
        True
    """
    bounds = np.stack(mask_spans(mask, top, left, size[1]), axis=1).ravel()
    return _encoded(np.diff(np.concatenate([[0], bounds, [size[0] * size[1]]])))


def _encoded(runs: Int[np.ndarray, " runs"]) -> list[int]:
    """Encode the run lengths of a mask, the first of which is of pixels outside."""
    samples = int(runs.sum()) * _CHANNELS
    runs = runs * _CHANNELS
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
    header = f"{samples:032b}{_WORD - 1:05b}" + "".join(f"{b - 1:04b}" for b in _LENGTH_BITS)
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
    starts, stops = brush_spans(rle, size)
    steps = np.zeros(size[0] * size[1] + 1, np.int8)
    steps[starts] = 1
    steps[stops] -= 1  # where one span ends and the next begins, nothing changes
    mask: Bool[np.ndarray, "_ _"] = np.cumsum(steps[:-1], dtype=np.int8).view(bool).reshape(size)
    return mask


def brush_spans(
    rle: Int[np.ndarray, " bytes"], size: tuple[int, int]
) -> tuple[Int[np.ndarray, " spans"], Int[np.ndarray, " spans"]]:
    """Decode Label Studio's brush format to spans of pixels, in row order; as `brush_mask`.

    Returns:
        The first pixel of each span, and the one after its last; ascending, none empty.

    Raises:
        InputError: the bytes are not in that format, or the mask has another size.
    """
    wrong = InputError("The brush mask cannot be decoded. Expected Label Studio's RLE, a list of bytes.")
    if rle.ndim != 1 or (rle < 0).any() or (rle > 255).any():
        raise wrong
    stream = _Bits(rle.astype(np.uint8))
    pieces: list[tuple[int, int]] = []
    try:
        count, word = stream.read(32), stream.read(5) + 1
        sizes = [stream.read(4) + 1 for _ in range(4)]
        if count != size[0] * size[1] * _CHANNELS or word != _WORD:
            raise wrong
        at = 0
        while at < count:
            kind = stream.read(3)  # 1 bit: a run or literal values; 2 bits: the size of the length
            stop = at + stream.read(sizes[kind & 3]) + 1
            if stop > count:
                raise wrong
            # A pixel's opacity is the last of its four values.
            first, end = at // _CHANNELS, stop // _CHANNELS
            if not kind & 4:
                values = stream.read_bytes(stop - at)
                opaque = values[first * _CHANNELS + _CHANNELS - 1 - at :: _CHANNELS] > 0
                edges = np.flatnonzero(np.diff(np.pad(opaque.view(np.int8), 1)))
                pieces += [(first + a, first + b) for a, b in edges.reshape(-1, 2).tolist()]
            elif stream.read(_WORD) and end > first:
                pieces.append((first, end))
            at = stop
    except IndexError as error:
        raise wrong from error
    spans = np.array(pieces, np.int64).reshape(-1, 2)
    return _joined(spans[:, 0], spans[:, 1])


def _joined(
    starts: Int[np.ndarray, " n"], stops: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " spans"], Int[np.ndarray, " spans"]]:
    """Join spans that follow each other directly."""
    apart = starts[1:] != stops[:-1]
    end = np.ones(min(len(starts), 1), bool)
    return starts[np.concatenate([end, apart])], stops[np.concatenate([apart, end])]


class _Bits:
    """Reads whole numbers from a stream of bits, most significant first."""

    def __init__(self, data: UInt8[np.ndarray, " n"]) -> None:
        self._data, self._at, self._size = data.tobytes(), 0, 8 * len(data)

    def read(self, width: int) -> int:
        """Return the next number, of at most 32 bits; IndexError at the end of the stream."""
        end = self._at + width
        if end > self._size:
            raise IndexError
        first, last = self._at >> 3, (end + 7) >> 3
        number = int.from_bytes(self._data[first:last], "big") >> (8 * last - end)
        self._at = end
        return number & (1 << width) - 1

    def read_bytes(self, count: int) -> UInt8[np.ndarray, " count"]:
        """Return the next numbers of 8 bits."""
        end = self._at + 8 * count
        if end > self._size:
            raise IndexError
        first, shift = self._at >> 3, self._at & 7
        data = np.frombuffer(self._data, np.uint8, (end + 7 >> 3) - first, first).astype(np.uint16)
        self._at = end
        joined = data[:count] << shift
        if shift:
            joined |= data[1 : count + 1] >> (8 - shift)
        return joined.astype(np.uint8)


def _bits(codes: Int[np.ndarray, " n"], widths: Int[np.ndarray, " n"]) -> UInt8[np.ndarray, " bits"]:
    """Return the bits of codes of different widths, one code after the other, most significant bit first."""
    code = np.repeat(codes, widths)
    ends = np.cumsum(widths)
    place = np.repeat(ends, widths) - 1 - np.arange(ends[-1] if len(ends) else 0)
    bits: UInt8[np.ndarray, " bits"] = (code >> place & 1).astype(np.uint8)
    return bits
