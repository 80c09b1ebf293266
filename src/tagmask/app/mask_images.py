"""Masks as the page reads and writes them: 8-bit RGB PNGs, label = R + 256 G, ignored pixels white."""

import io
import struct
from typing import Final

import numpy as np
import PIL.Image
from jaxtyping import UInt8, UInt32

from tagmask.errors import ImageError, InputError
from tagmask.images import decode
from tagmask.masks import IndexMap
from tagmask.runs.classes import Classes
from tagmask.types import Size

__all__ = ["body_limit", "grey_png", "mask_png", "read_mask_png", "regions_png"]

_IGNORED: Final = 0xFFFFFF
_COMPRESSION: Final = 2
"""Of zlib: the page waits for it."""
_HEAD: Final = 1 << 16
"""Bytes of a PNG besides its pixels."""


def mask_png(labels: IndexMap, ignore_index: int) -> bytes:
    """Encode a mask for the page."""
    codes = labels.astype(np.uint32)
    codes[labels == ignore_index] = _IGNORED
    return regions_png(codes)


def regions_png(regions: UInt32[np.ndarray, "h w"]) -> bytes:
    """Encode numbers below 2**24, a pixel each, lowest byte in red."""
    little = np.ascontiguousarray(regions.astype("<u4")).view(np.uint8)
    return _png(np.ascontiguousarray(little.reshape(*regions.shape, 4)[..., :3]))


def grey_png(values: UInt8[np.ndarray, "h w"]) -> bytes:
    """Encode a grey image."""
    return _png(values)


def body_limit(size: Size) -> int:
    """Bytes that a mask of a size may have, without any compression."""
    return 4 * size[0] * size[1] + size[0] + _HEAD


def read_mask_png(data: bytes, size: Size, classes: Classes) -> IndexMap:
    """Decode a mask that the page drew.

    Args:
        data: the PNG.
        size: (h, w) of the image.
        classes: what labels there are.

    Returns:
        The labels in the dtype of the run's masks.

    Raises:
        InputError: it is not such a PNG, has another size, or a label that no class has.
    """
    stated = _stated_size(data)
    if stated != size:  # before anything is decoded
        raise InputError(f"The mask is {stated[1]} x {stated[0]} pixels, its image {size[1]} x {size[0]}.")
    try:
        image = decode(data, formats=("PNG",))
    except ImageError as error:
        raise InputError("The mask is not a PNG that can be read.") from error
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")  # what a canvas gives
    if image.mode != "RGB":
        raise InputError("The mask is not an RGB image without transparency.")
    pixels = np.asarray(image).astype(np.uint32)
    codes = pixels[..., 0] | pixels[..., 1] << 8 | pixels[..., 2] << 16
    ignored = codes == _IGNORED
    highest = int(codes.max(where=~ignored, initial=0))
    if highest >= len(classes.names):
        raise InputError(f"The mask has label {highest}; there are {len(classes.names)} classes, from 0.")
    codes[ignored] = classes.ignore_index
    return codes.astype(np.uint8 if classes.ignore_index <= 255 else np.uint16)


def _stated_size(data: bytes) -> Size:
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or data[12:16] != b"IHDR" or len(data) < 24:
        raise InputError("The mask is not a PNG.")
    width, height = struct.unpack(">II", data[16:24])
    return height, width


def _png(pixels: UInt8[np.ndarray, "..."]) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()
