"""Image input: any common image becomes upright RGB, or an error that says why not.

    source --decode--> PIL image, first frame --flatten--> RGB --EXIF--> upright (h, w, 3) uint8

16-bit grey is scaled, never clipped; transparency is composited on white; an image over Pillow's pixel limit
is refused before it is decoded. Colour profiles are not applied.
"""

import codecs
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL.Image
from PIL import ExifTags, ImageOps

from tagmask.errors import ImageError
from tagmask.types import Image, Size

__all__ = [
    "ImageSource",
    "decode",
    "image_size",
    "read_image",
]

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | PIL.Image.Image | np.ndarray
"""A file path, an encoded file's bytes, a PIL image, or a uint8 array (h, w, 3)."""

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM", "HEIF")
"""Supported formats, by Pillow's names, without those that need another program (EPS, WMF). HEIF works once
the user has registered pillow-heif."""

_STARTS = (
    (b"version https://git-lfs", "a git-lfs pointer; run `git lfs pull` to fetch the image itself"),
    (b"<!doctype html", "an HTML page, often what a failed download leaves"),
    (b"<html", "an HTML page, often what a failed download leaves"),
    (b"<svg", "an SVG drawing; export it as PNG"),
    (b"<?xml", "XML (an SVG drawing?)"),
    (b"%pdf", "a PDF; export its pages as PNG"),
    (b"pk\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
)


def read_image(source: ImageSource) -> Image:
    """Read one image as upright RGB.

    Args:
        source: a file path; the bytes of an encoded file; a PIL image (its current frame); or an upright
            RGB uint8 array (h, w, 3). The format is detected from the content, never from the file's
            extension. EXIF orientation is applied if the source has one.

    Returns:
        Upright RGB, 0..255, C-contiguous, owned by the caller. 16-bit grey is scaled to 8 bits
        (v / 257, rounded); transparency is composited on white; an animation or a multi-page file
        gives its first frame.

    Raises:
        ImageError: the source is missing, empty, damaged or not an image; its mode or dtype has no unique
            meaning as RGB; or it has more pixels than `PIL.Image.MAX_IMAGE_PIXELS` (None for no limit).

    Example:
        >>> read_image(PIL.Image.new("CMYK", (4, 2))).shape
        (2, 4, 3)
    """
    if isinstance(source, np.ndarray):
        return _checked_array(source)
    if isinstance(source, PIL.Image.Image):
        what = f"The PIL image (mode {source.mode})"
        _check_size(source, what)
        _load(source, what)
        image = source
    elif isinstance(source, str | os.PathLike | bytes):
        image, what = decode(source), _name(source)
    else:
        raise ImageError(
            f"Got {type(source).__name__}, not an image. Give a path, bytes, a PIL image or a uint8 array."
        )
    return np.array(_upright(_flatten(image, what), _orientation(image)), order="C")


def decode(source: str | os.PathLike[str] | bytes, formats: Sequence[str] = _FORMATS) -> PIL.Image.Image:
    """Decode the first frame of an encoded file, in its stored mode and orientation.

    `PIL.Image.open` is not used: it warns about large images before their size can be checked, and
    silencing a warning is not thread-safe.

    Args:
        source: a file path, or the bytes of an encoded file.
        formats: the formats to accept, by Pillow's names.

    Returns:
        The image, loaded; its file is closed.

    Raises:
        ImageError: as `read_image`, except that every mode is accepted.
    """
    what = _name(source)
    with io.BytesIO(source) if isinstance(source, bytes) else _open(source) as stream:
        image = _identify(stream, what, formats)
        _check_size(image, what)
        _load(image, what)
    return image


def image_size(source: str | os.PathLike[str]) -> Size:
    """Return the upright size (h, w) from a file's header; only a TIFF's pixels are decoded.

    Raises:
        ImageError: the file is missing, empty or not an image.
    """
    with _open(source) as stream:
        image = _identify(stream, _name(source), _FORMATS)
        # Pillow also searches for a PNG's EXIF after the pixels, and would decode them for that.
        turned = (image.format != "PNG" or "exif" in image.info) and _orientation(image) > 4
        if image.format != "TIFF":
            return (image.width, image.height) if turned else (image.height, image.width)
    # Whether a TIFF's size is already turned depends on Pillow's version.
    height, width, _ = read_image(source).shape
    return height, width


def _name(source: str | os.PathLike[str] | bytes) -> str:
    return f"The {len(source)} bytes given" if isinstance(source, bytes) else str(os.fspath(source))


def _open(source: str | os.PathLike[str]) -> io.BufferedReader:
    path = Path(source)
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder, not an image file. Give the files in it.")
        if path.exists() and not path.is_file():
            raise ImageError(f"{path} is a pipe or a device, not an image file. Read it and pass the bytes.")
        return path.open("rb")
    except FileNotFoundError:
        hint = " URLs are not fetched: download the file first." if "://" in str(source) else ""
        raise ImageError(f"There is no file {source} (current folder: {Path.cwd()}).{hint}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{str(source)!r} cannot be opened: {reason}.") from error


def _identify(stream: io.BytesIO | io.BufferedReader, what: str, formats: Sequence[str]) -> PIL.Image.Image:
    PIL.Image.init()
    head = stream.read(64)
    if not head:
        raise ImageError(f"{what}: an empty file (0 bytes). Fetch or export it again.")
    reasons = []
    for format_ in (name for name in formats if name in PIL.Image.OPEN):
        factory, accept = PIL.Image.OPEN[format_]
        try:
            accepted = accept is None or accept(head[:16].ljust(16, b"\0"))
            if isinstance(accepted, str):  # Pillow was built without this format's library
                reasons.append(accepted)
            elif accepted:
                stream.seek(0)
                return factory(stream, "")
        except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
            raise _too_large(what, str(error)) from None
        except MemoryError:
            raise
        except Exception as error:  # decoders raise errors of any kind on damaged bytes
            reasons.append(f"it starts like a {format_} file, but its header is damaged ({error})")
    if reasons:
        raise ImageError(f"{what}: {'; '.join(reasons)}. Fetch or export it again.")
    raise ImageError(f"{what} is not one of {', '.join(formats)}; it looks like {_describe(head)}.")


def _describe(head: bytes) -> str:
    start = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for prefix, meaning in _STARTS:
        if start.startswith(prefix):
            return meaning
    if head[4:8] == b"ftyp":
        brand = head[8:12].decode("latin-1")
        return f"an ISO media file of brand {brand!r} (HEIC or a video); export it as JPEG or PNG"
    if not head.strip(b"\0"):
        return "all null bytes, as an interrupted copy leaves"
    try:  # incremental: the last character may be incomplete
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        text = ""
    if text and all(c.isprintable() or c.isspace() for c in text):
        return f"text, starting {text[:40]!r}"
    return f"unknown data, starting {head[:12].hex(' ')}"


def _check_size(image: PIL.Image.Image, what: str) -> None:
    limit = PIL.Image.MAX_IMAGE_PIXELS
    if image.width * image.height == 0:
        raise ImageError(f"{what} has no pixels: {image.height} x {image.width} (height x width).")
    if limit is not None and image.width * image.height > limit:
        raise _too_large(what, f"{image.height} x {image.width} (height x width), limit of {limit} pixels")


def _too_large(what: str, size: str) -> ImageError:
    return ImageError(
        f"{what} is too large: {size}. Resize it; or, if you trust its origin, raise "
        "PIL.Image.MAX_IMAGE_PIXELS (None for no limit)."
    )


def _load(image: PIL.Image.Image, what: str) -> None:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise ImageError(f"{what} is damaged or truncated: {error}. Fetch or export it again.") from error


def _orientation(image: PIL.Image.Image) -> int:
    """EXIF orientation, 1..8; 1 (upright) if it is missing, invalid or unreadable, as in image viewers."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


def _upright(image: PIL.Image.Image, orientation: int) -> PIL.Image.Image:
    if orientation == 1:
        return image
    # A fresh EXIF with this one tag: rewriting the camera's fails if any other tag is malformed.
    bare = image.copy()
    bare.info = {}
    bare.getexif()[ExifTags.Base.Orientation] = orientation
    return ImageOps.exif_transpose(bare)


def _flatten(image: PIL.Image.Image, what: str) -> PIL.Image.Image:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _eight_bit(image, what).convert("RGB")
    if image.mode == "F":
        raise ImageError(
            f"{what} has float pixels (mode F) of unknown range. Scale them to "
            "0..255 and pass a uint8 array (h, w, 3)."
        )
    try:
        if not image.has_transparency_data:
            return image.convert("RGB")
        rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    except (ValueError, OSError) as error:
        raise ImageError(f"{what} has the unsupported colour mode {image.mode}. Save it as RGB.") from error
    white = PIL.Image.new("RGB", rgba.size, (255, 255, 255))
    white.paste(rgba, mask=rgba)
    return white


def _eight_bit(image: PIL.Image.Image, what: str) -> PIL.Image.Image:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"{what} has integers {low}..{high} (mode {image.mode}); grey must lie in 0..65535. Scale "
            "them to 0..255 and pass a uint8 array (h, w, 3)."
        )
    # Pillow gives a 12-bit TIFF as 16-bit values without scaling them: white is 4095.
    white = 4095 if getattr(image, "tag_v2", {}).get(258) == (12,) else 65535
    scale = ((np.arange(65536, dtype=np.uint32) * 510 + white) // (2 * white)).clip(max=255).astype(np.uint8)
    return PIL.Image.fromarray(scale[values])


def _checked_array(array: np.ndarray) -> Image:
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size:
        return np.array(array, order="C", copy=True, subok=False)
    if not array.size:
        advice = "It has no pixels."
    elif array.dtype != np.uint8:
        advice = "For floats in 0..1: (x * 255).round().astype('uint8'). For 0..255: x.astype('uint8')."
    elif array.ndim == 2:
        advice = "Grey becomes RGB with np.repeat(x[..., None], 3, axis=2)."
    elif array.ndim == 3 and array.shape[2] == 4:
        advice = "RGBA can be given as PIL.Image.fromarray(x)."
    elif array.ndim == 3 and array.shape[0] == 3:
        advice = "Channels go last: np.moveaxis(x, 0, 2)."
    else:
        advice = "Give one image at a time, channels last; for a batch, list(x)."
    raise ImageError(
        f"Got an array of {array.dtype} of shape {array.shape}; an image is RGB uint8 (h, w, 3). {advice}"
    )
