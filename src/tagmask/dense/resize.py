"""OpenCV's 8-bit bilinear resize, bit for bit, without OpenCV.

Its fixed-point arithmetic differs from other libraries' bilinear resizes by one grey level in
some pixels, enough to change scores that are compared with published ones.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, UInt8

from tagmask.errors import InputError
from tagmask.types import Image, Size

__all__ = ["resize_cv2_linear", "short_side_size"]

_ONE = np.float32(2048)
"""Weights are integers in units of 1/2048."""
_STRIP = 1 << 17
"""Values of the result computed at a time: they stay in the CPU's cache."""


def short_side_size(size: Size, short: int, long_limit: int = 2048) -> Size:
    """The size that scales the short side to `short`, or the long side to `long_limit` if that is smaller.

    Args:
        size: (h, w) in pixels.
        short: target length of the short side.
        long_limit: maximum length of the long side.

    Returns:
        (h, w), each side scaled by the same factor, rounded half up, at least 1.

    Raises:
        InputError: an argument is under 1.

    Source:
        As coded by the authors of SCLIP (ECCV 2024), with mmcv's rounding.

    Example:
        >>> short_side_size((375, 500), 336)
        (336, 448)
    """
    if min(*size, short, long_limit) < 1:
        raise InputError(
            f"Got size {size}, short side {short}, long limit {long_limit}. Each must be at least 1."
        )
    factor = min(long_limit / max(size), short / min(size))
    h, w = (max(int(side * factor + 0.5), 1) for side in size)
    return h, w


def resize_cv2_linear(image: Image, size: Size) -> UInt8[np.ndarray, "h1 w1 3"]:
    """Resize as OpenCV's `resize(..., INTER_LINEAR)` does on 8-bit images.

    No antialiasing: a strong reduction skips pixels. As in OpenCV, there is one exception:
    halving both sides exactly gives the mean of each 2 x 2 block, rounded half up. All other
    factors, including half of one side only, are interpolated.

    Args:
        image: uint8, any channel order.
        size: (h, w) of the result.

    Returns:
        A new array. Memory beyond the result is bounded, whatever the size of `image`.

    Raises:
        InputError: a side of `size` or of the image is under 1.

    Source:
        OpenCV 4 and 5 on x86, plain CPU code. Builds that delegate to a vendor's library may
        round differently.

    Example:
        >>> resize_cv2_linear(np.full((4, 6, 3), 9, np.uint8), (8, 5)).shape
        (8, 5, 3)
    """
    h, w = image.shape[:2]
    if min(h, w, *size) < 1:
        raise InputError(f"Cannot resize an image of {(h, w)} to {size}. Each side must be at least 1.")
    out = np.empty((*size, 3), np.uint8)
    halve = (h, w) == (2 * size[0], 2 * size[1])
    # OpenCV treats the borders of the two axes differently.
    rows, columns = _mix(h, size[0], border_only=False), _mix(w, size[1], border_only=True)
    step = max(_STRIP // (3 * max(w, size[1])), 1)
    for top in range(0, size[0], step):
        strip = slice(top, min(top + step, size[0]))
        out[strip] = _halved(image, strip) if halve else _resized(image, rows, columns, strip)
    return out


class _Mix(NamedTuple):
    """The two samples that each target position mixes, and their weights in units of 1/2048."""

    low: Int[np.ndarray, " target"]
    high: Int[np.ndarray, " target"]
    low_part: Int[np.ndarray, " target"]
    high_part: Int[np.ndarray, " target"]


def _mix(source: int, target: int, *, border_only: bool) -> _Mix:
    """The samples along one axis; with `border_only`, positions beyond the border use its sample only."""
    # The reciprocal of the inverse ratio, not source / target: the two may differ in the last bit.
    scale = 1.0 / (target / source)
    position = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    floor = np.floor(position)
    low = floor.astype(np.intp)
    part = position - floor
    if border_only:
        part[(low < 0) | (low >= source - 1)] = 0
    return _Mix(
        np.clip(low, 0, source - 1),
        np.clip(low + 1, 0, source - 1),
        np.rint((1 - part) * _ONE).astype(np.int32),
        np.rint(part * _ONE).astype(np.int32),
    )


def _resized(image: Image, rows: _Mix, columns: _Mix, strip: slice) -> UInt8[np.ndarray, "strip w1 3"]:
    upper, lower = rows.low[strip], rows.high[strip]
    # Resize each source row once, even if several target rows read it.
    used, index = np.unique(np.concatenate([upper, lower]), return_inverse=True)
    wide = _widened(image[used], columns)
    first, second = wide[index[: len(upper)]], wide[index[len(upper) :]]
    first *= rows.low_part[strip, None, None]
    first >>= 16
    second *= rows.high_part[strip, None, None]
    second >>= 16
    first += second
    first += 2
    first >>= 2
    return first.astype(np.uint8)


def _widened(lines: UInt8[np.ndarray, "used w 3"], columns: _Mix) -> Int32[np.ndarray, "used w1 3"]:
    wide = lines[:, columns.low].astype(np.int32)
    wide *= columns.low_part[:, None]
    more = lines[:, columns.high].astype(np.int32)
    more *= columns.high_part[:, None]
    wide += more
    wide >>= 4
    return wide


def _halved(image: Image, strip: slice) -> UInt8[np.ndarray, "strip w1 3"]:
    rows = image[2 * strip.start : 2 * strip.stop].astype(np.uint16)
    blocks = rows[0::2, 0::2]
    blocks += rows[0::2, 1::2]
    blocks += rows[1::2, 0::2]
    blocks += rows[1::2, 1::2]
    blocks += 2
    blocks >>= 2
    return blocks.astype(np.uint8)
