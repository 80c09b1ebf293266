"""From a decoded image of any mode to upright RGB, some rows at a time, so that copies stay small."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from tagmask.errors import ImageError
from tagmask.types import Image

__all__ = ["upright_rgb"]

_LOG = logging.getLogger(__name__)
_BAND = 1 << 20
"""Pixels converted at a time."""
_WHITE = 65535
_NEARLY_BLACK = 4095
"""As the largest value of 16 bits: 12 bits or fewer, not scaled."""
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
"""Pillow decodes their 16-bit grey to mode I as well, depending on its version."""


def upright_rgb(image: PIL.Image.Image, orientation: int, what: str) -> Image:
    """Convert a decoded image.

    Args:
        image: decoded, not turned.
        orientation: as in EXIF, 1..8.
        what: the image's name, for messages.

    Raises:
        ImageError: its mode has no unique meaning as RGB.
    """
    convert = _Grey.of(image, what).convert if _is_deep(image) else _flatten
    if image.mode == "F":
        raise ImageError(
            f"{what} has float pixels (mode F) of unknown range. Scale them to "
            "0..255 and pass a uint8 array (h, w, 3)."
        )
    turned = orientation > 4
    rgb = np.empty((image.width, image.height, 3) if turned else (image.height, image.width, 3), np.uint8)
    stored = _as_stored(rgb, orientation)
    try:
        for top, band in _bands(image):
            stored[top : top + band.height] = convert(band)
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(f"{what} has the unsupported colour mode {image.mode}. Save it as RGB.") from error
    return rgb


def _bands(image: PIL.Image.Image) -> Iterator[tuple[int, PIL.Image.Image]]:
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _as_stored(rgb: Image, orientation: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """A view of an upright image whose rows and columns are those of the file."""
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    view = rgb[rows, columns]
    return view.transpose(1, 0, 2) if orientation > 4 else view


def _flatten(image: PIL.Image.Image) -> UInt8[np.ndarray, "_ _ 3"]:
    """Composite on white; a colour without transparency stays as it is."""
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = PIL.Image.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=rgba)
    return np.asarray(white)


def _is_deep(image: PIL.Image.Image) -> bool:
    return image.mode == "I" or image.mode.startswith("I;16")


@dataclass(frozen=True)
class _Grey:
    """Grey of more than 8 bits."""

    scale: UInt8[np.ndarray, "65536"]
    """The 8-bit grey of each value."""

    @classmethod
    def of(cls, image: PIL.Image.Image, what: str) -> "_Grey":
        bands = (np.asarray(band) for _, band in _bands(image))
        ranges = [(int(values.min()), int(values.max())) for values in bands]
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        if low < 0 or high > _WHITE:
            raise ImageError(
                f"{what} has integers {low}..{high} (mode {image.mode}); grey must lie in 0..65535. Scale "
                "them to 0..255 and pass a uint8 array (h, w, 3)."
            )
        tags = getattr(image, "tag_v2", {})
        # Pillow gives a 12-bit TIFF as 16-bit values without scaling them: white is 4095.
        white = 4095 if tags.get(258) == (12,) else _WHITE
        if image.mode == "I" and image.format not in _SIXTEEN_BIT_FORMATS and 0 < high <= 255:
            white = 255
            _LOG.warning(
                "%s: integers of more than 8 bits, but none is over %d: 255 was taken as white. "
                "Save it as 8-bit grey; or scale it to 0..65535, if it should be black.",
                what,
                high,
            )
        elif white == _WHITE and 0 < high <= _NEARLY_BLACK and tags.get(262) != 0:
            _LOG.warning(
                "%s: 16-bit grey, but no value is over %d of 65535: it is nearly black. If its white is less "
                "than 65535, as in 10- or 12-bit grey, scale it to 0..65535.",
                what,
                high,
            )
        scale = ((np.arange(65536, dtype=np.uint32) * 510 + white) // (2 * white)).clip(max=255)
        if tags.get(262) == 0:  # PhotometricInterpretation: 0 is white; Pillow inverts only up to 8 bits
            scale = 255 - scale
        key = image.info.get("transparency")
        if isinstance(key, int) and 0 <= key <= _WHITE:
            scale[key] = 255
        return cls(scale.astype(np.uint8))

    def convert(self, image: PIL.Image.Image) -> UInt8[np.ndarray, "_ _ 3"]:
        return np.broadcast_to(self.scale[np.asarray(image)][..., None], (image.height, image.width, 3))
