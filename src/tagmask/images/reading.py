"""Read images from paths, bytes, PIL images and arrays."""

import codecs
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import PIL.Image
from PIL import ExifTags, TiffImagePlugin

from tagmask.errors import ImageError
from tagmask.images.avif import check_avif, check_avif_memory
from tagmask.images.bitmaps import bmp_header, pnm_header
from tagmask.images.gif import gif_header
from tagmask.images.header import Header, Stream, only
from tagmask.images.jpeg import jpeg_header
from tagmask.images.jpeg2000 import jpeg2000_header
from tagmask.images.limits import CostError, HeaderError, SizeError, check_size
from tagmask.images.orientation import orientation_of
from tagmask.images.pixels import upright_rgb
from tagmask.images.png import png_header
from tagmask.images.tiff import tiff_header
from tagmask.images.webp import webp_header
from tagmask.types import Image, Size

__all__ = [
    "ImageSource",
    "decode",
    "image_orientation",
    "image_size",
    "read_image",
]

ImageSource: TypeAlias = str | os.PathLike[str] | bytes | PIL.Image.Image | np.ndarray
"""A file path, an encoded file's bytes, a PIL image, or a uint8 array (h, w, 3)."""

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "AVIF", "PPM", "HEIF")
"""Supported formats, by Pillow's names, without those that need another program (EPS, WMF). HEIF works once
the user has registered pillow-heif."""

_HEADERS: Mapping[str, Callable[[Stream, bool], Header]] = MappingProxyType(
    {
        "JPEG": jpeg_header,
        "PNG": png_header,
        "WEBP": webp_header,
        "TIFF": tiff_header,
        "BMP": bmp_header,
        "GIF": gif_header,
        "JPEG2000": jpeg2000_header,
        "PPM": pnm_header,
    }
)
"""Of other formats Pillow reads the header; it does not decode then."""

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
            extension. The orientation is applied if the source has one: EXIF's, else XMP's.

    Returns:
        Upright RGB, 0..255, C-contiguous, owned by the caller. 16-bit grey is scaled to 8 bits
        (v / 257, rounded), with a warning if it is nearly black; 32-bit integers of 0..255 are taken as 8-bit
        grey, with a warning; transparency is composited on white; an animation or a multi-page file
        gives its first frame.

    Raises:
        ImageError: the source is missing, empty, damaged or not an image; its mode or dtype has no unique
            meaning as RGB; it has more pixels than `PIL.Image.MAX_IMAGE_PIXELS`, or a side of more than
            65,535; or it would cost more memory or time than images of its size do. With
            `PIL.Image.MAX_IMAGE_PIXELS = None` there are no limits.

    Example:
        >>> read_image(PIL.Image.new("CMYK", (4, 2))).shape
        (2, 4, 3)
    """
    if isinstance(source, np.ndarray):
        return _checked_array(source)
    if isinstance(source, PIL.Image.Image):
        what = f"The PIL image (mode {source.mode})"
        with _failures(what):
            check_size((source.height, source.width))
            source.load()
            return upright_rgb(source, _orientation(source), what)
    if not isinstance(source, str | os.PathLike | bytes):
        raise ImageError(
            f"Got {type(source).__name__}, not an image. Give a path, bytes, a PIL image or a uint8 array."
        )
    what = _name(source)
    with _failures(what), _open(source) as stream:
        image, header = _identify(stream, what, _FORMATS, pixels=True)
        _load(image)
        # Some versions of Pillow turn a TIFF while they decode it.
        orientation = _orientation(image) if image.format == "TIFF" else header.orientation
        return upright_rgb(image, orientation, what)


def decode(source: str | os.PathLike[str] | bytes, formats: Sequence[str] = _FORMATS) -> PIL.Image.Image:
    """Decode the first frame of an encoded file, in its stored mode and orientation.

    `PIL.Image.open` is not used: it warns about large images before their size can be checked, and
    silencing a warning is not thread-safe.

    Args:
        source: a file path, or the bytes of an encoded file.
        formats: the formats to accept, by Pillow's names.

    Returns:
        The image, loaded; its file is closed. It has no metadata.

    Raises:
        ImageError: as `read_image`, except that every mode is accepted.
    """
    what = _name(source)
    with _failures(what), _open(source) as stream:
        image, _ = _identify(stream, what, formats, pixels=True)
        _load(image)
    return image


def image_size(source: str | os.PathLike[str] | bytes) -> Size:
    """Return the upright size (h, w), which `read_image` gives, from a file's header.

    Raises:
        ImageError: the file is missing, empty or not an image, or it is too large.
    """
    what = _name(source)
    with _failures(what), _open(source) as stream:
        _, header = _identify(stream, what, _FORMATS, pixels=False)
    height, width = header.size
    return (width, height) if header.orientation > 4 else (height, width)


def image_orientation(source: str | os.PathLike[str]) -> int:
    """Return the orientation that an image file states, 1 (upright) to 8, as in EXIF; from its header.

    Raises:
        ImageError: as `image_size`.
    """
    what = _name(source)
    with _failures(what), _open(source) as stream:
        return _identify(stream, what, _FORMATS, pixels=False)[1].orientation


def _name(source: str | os.PathLike[str] | bytes) -> str:
    return f"The {len(source)} bytes given" if isinstance(source, bytes) else str(os.fspath(source))


@contextmanager
def _failures(what: str) -> Iterator[None]:
    """Turn every failure into an `ImageError` that names the image."""
    try:
        yield
    except ImageError:
        raise
    except SizeError as error:
        raise ImageError(
            f"{what} is too large: {error}. Resize it; or, if you trust its origin, raise "
            "PIL.Image.MAX_IMAGE_PIXELS (None for no limit)."
        ) from None
    except CostError as error:
        raise ImageError(
            f"{what} would cost too much to decode: {error}. Convert it to an ordinary PNG or JPEG; or, if "
            "you trust its origin, set PIL.Image.MAX_IMAGE_PIXELS = None (no limits)."
        ) from None
    except HeaderError as error:
        raise ImageError(f"{what} is damaged: {error}. Fetch or export it again.") from None
    except MemoryError:
        # Its traceback would keep what was decoded so far.
        raise ImageError(f"{what}: there is not enough memory to decode it. Reduce it.") from None
    except Exception as error:  # decoders raise errors of any kind on damaged bytes
        raise ImageError(
            f"{what} is damaged or truncated: {_said(error)}. Fetch or export it again."
        ) from error


def _said(error: BaseException) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


def _open(source: str | os.PathLike[str] | bytes) -> Stream:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    path = Path(source)
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder, not an image file. Give the files in it.")
        if path.exists() and not path.is_file():
            raise ImageError(f"{path} is a pipe or a device, not an image file. Read it and pass the bytes.")
        return path.open("rb")
    except FileNotFoundError:
        hint = " URLs are not fetched: download the file first." if "://" in str(source) else ""
        where = "" if path.is_absolute() else f" (current folder: {Path.cwd()})"
        raise ImageError(f"There is no file {source}{where}.{hint}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{str(source)!r} cannot be opened: {reason}.") from error


def _identify(
    stream: Stream, what: str, formats: Sequence[str], *, pixels: bool
) -> tuple[PIL.Image.Image, Header]:
    """Find the format of a file; return its image, not decoded, and its header."""
    PIL.Image.init()
    stream.seek(0)
    head = stream.read(64)
    if not head:
        raise ImageError(f"{what}: an empty file (0 bytes). Fetch or export it again.")
    reasons = []
    for format_ in (name for name in formats if name in PIL.Image.OPEN):
        _, accept = PIL.Image.OPEN[format_]
        try:
            accepted = accept is None or accept(head[:16].ljust(16, b"\0"))
            if isinstance(accepted, str):  # Pillow was built without this format's library
                reasons.append(accepted)
            elif accepted:
                return _opened(stream, format_, pixels)
        except (SizeError, CostError, MemoryError):
            raise
        except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
            raise SizeError(_said(error)) from None
        except Exception as error:
            reasons.append(f"it starts like a {format_} file, but its header is damaged ({_said(error)})")
    if reasons:
        raise ImageError(f"{what}: {'; '.join(reasons)}. Fetch or export it again.")
    raise ImageError(f"{what} is not one of {', '.join(formats)}; it looks like {_describe(head)}.")


def _opened(stream: Stream, format_: str, pixels: bool) -> tuple[PIL.Image.Image, Header]:
    header = None
    if format_ in _HEADERS:
        header = _HEADERS[format_](stream, pixels)
        check_size(header.size)
    elif format_ == "AVIF":
        check_avif(stream)
    stream.seek(0)
    factory, _ = PIL.Image.OPEN[format_]
    image = factory(stream if header is None or header.parts is None else only(stream, header.parts), "")
    size = image.height, image.width
    if header is None:
        check_size(size)
        if format_ == "AVIF":
            check_avif_memory(stream, size)
        return image, Header(size, orientation_of(image.info.get("exif"), image.info.get("xmp")))
    # Whether the size of a TIFF is already turned depends on Pillow's version.
    if size != header.size and not (format_ == "TIFF" and size[::-1] == header.size):
        raise HeaderError(f"its parts disagree on its size: {header.size} and {size} (height, width)")
    if header.colour_key is not None:
        image.info["transparency"] = header.colour_key
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Pillow's size depends on this tag, however malformed it is.
        tag = image.tag_v2.get(ExifTags.Base.Orientation)
        if tag is not None:
            header = replace(header, orientation=tag if tag in range(1, 9) else 1)
        exif = PIL.Image.Exif()
        exif[ExifTags.Base.Orientation] = header.orientation
        image.getexif = lambda: exif  # type: ignore[method-assign]
    return image, header


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


def _load(image: PIL.Image.Image) -> None:
    image.load()
    # Decoders of animations keep two frames, which nothing needs any more.
    vars(image).pop("_decoder", None)


def _orientation(image: PIL.Image.Image) -> int:
    """EXIF orientation, 1..8; 1 (upright) if it is missing, invalid or unreadable, as in image viewers."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1


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
