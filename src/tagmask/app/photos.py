"""The photos of a run, upright, for a browser; and small ones with their masks."""

import io
import threading
from collections import OrderedDict
from typing import Final

import numpy as np
import PIL.Image
from starlette.exceptions import HTTPException

from tagmask.app.reviewed_run import ReviewedRun
from tagmask.errors import ImageError
from tagmask.images import image_orientation, image_size, read_image
from tagmask.masks import overlay
from tagmask.reading import read_regular
from tagmask.runs.rows import ImageRow
from tagmask.types import Image

__all__ = ["Photos", "photo_bytes", "upright_photo"]

_LARGEST: Final = 1 << 30
"""Bytes of a photo's file."""
_JPEG_LIMIT: Final = 65_500
"""Largest width and height of a JPEG."""
_QUALITY: Final = 92
_SMALL_QUALITY: Final = 85
_TINT: Final = 0.6
"""Opacity of masks, which have no outlines here."""
_KEPT: Final = 48 << 20
"""Bytes of small photos that are kept."""
_AT_ONCE: Final = 2
"""Photos that are decoded at once: each may take hundreds of megabytes."""


def upright_photo(row: ImageRow) -> Image:
    """Return the photo of an image.

    Raises:
        HTTPException: it is gone, has another size now, or cannot be read.
    """
    _check_there(row)
    try:
        pixels = read_image(row.source)
    except ImageError as error:
        raise _unreadable(row) from error
    _check_size(row, (pixels.shape[0], pixels.shape[1]))
    return pixels


def photo_bytes(row: ImageRow) -> tuple[bytes, str]:
    """Return a photo's file and its type; another encoding where browsers would not show it upright.

    Raises:
        HTTPException: as for `upright_photo`.
    """
    _check_there(row)
    try:
        with row.source.open("rb") as file:
            head = file.read(8)
        kind = _shown_as_it_is(head)
        if kind is not None and image_orientation(row.source) == 1:
            _check_size(row, image_size(row.source))
            data = read_regular(row.source, _LARGEST)
            if kind == "image/jpeg" or b"acTL" not in data[: 1 << 16]:  # nor one that moves
                return data, kind
    except (OSError, ImageError) as error:
        raise _unreadable(row) from error
    return _encoded(upright_photo(row))


class Photos:
    """Draws small photos with their newest masks, and keeps some of them."""

    def __init__(self, run: ReviewedRun) -> None:
        self._run = run
        self._kept: OrderedDict[tuple[str, int, str], bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    def thumbnail(self, row: ImageRow, size: int) -> bytes:
        """Return a small JPEG of an image, with its newest mask if it has one.

        Args:
            row: the image.
            size: of the longer side, in pixels.

        Raises:
            HTTPException: as for `upright_photo`.
        """
        known = (row.key, size, str(self._run.image(row)["version"]))
        with self._lock:
            if known in self._kept:
                self._kept.move_to_end(known)
                return self._kept[known]
        with self._turns:
            drawn = self._drawn(row, size)
        with self._lock:
            self._kept[known] = drawn
            while sum(map(len, self._kept.values())) > _KEPT:
                self._kept.popitem(last=False)
        return drawn

    def _drawn(self, row: ImageRow, size: int) -> bytes:
        pixels = upright_photo(row)
        height, width = pixels.shape[:2]
        scale = min(1.0, size / max(height, width))
        small = (max(1, round(width * scale)), max(1, round(height * scale)))
        photo = np.array(PIL.Image.fromarray(pixels).resize(small, PIL.Image.Resampling.BOX))
        shown = PIL.Image.fromarray(photo)
        if row.status == "done":
            try:
                labels = self._run.mask(row)
            except HTTPException:
                pass  # the photo alone
            else:
                rows, columns = (
                    (np.arange(short) * long) // short
                    for short, long in ((small[1], labels.shape[0]), (small[0], labels.shape[1]))
                )
                names = [""] * len(self._run.words)  # the page writes them beside it
                skip = frozenset({0} if self._run.background else ())
                shown = overlay(
                    photo, labels[np.ix_(rows, columns)], names, skip=skip, opacity=_TINT, outlines=False
                )
        buffer = io.BytesIO()
        shown.save(buffer, "JPEG", quality=_SMALL_QUALITY)
        return buffer.getvalue()


def _shown_as_it_is(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/png" if head.startswith(b"\x89PNG\r\n\x1a\n") else None


def _encoded(pixels: Image) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    image = PIL.Image.fromarray(pixels)
    if max(pixels.shape) > _JPEG_LIMIT:
        image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "image/png"
    image.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue(), "image/jpeg"


def _check_there(row: ImageRow) -> None:
    if not row.source.is_file():
        raise HTTPException(410, "The photo is no longer where the run found it.")


def _check_size(row: ImageRow, size: tuple[int, int]) -> None:
    if (row.height or size[0], row.width or size[1]) != size:
        raise HTTPException(410, "The photo has another size than when it was masked. Mask it again.")


def _unreadable(row: ImageRow) -> HTTPException:
    status = 410 if not row.source.is_file() else 422
    return HTTPException(status, "The photo cannot be read." if status == 422 else "The photo is gone.")
