"""The orientation of an image: EXIF's tag 274, or XMP's `tiff:Orientation` if EXIF has none."""

import re
import struct

__all__ = ["orientation_of"]

_TAG = 274
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_SHORT, _LONG = 3, 4


def orientation_of(exif: bytes | None, xmp: bytes | None = None) -> int:
    """Return the orientation, 1..8; 1 (upright) if it is missing, invalid or unreadable, as in image viewers.

    Only the one tag is read: other tags may be damaged.

    Args:
        exif: the EXIF data, with or without its prefix.
        xmp: the XMP packet; read if EXIF has no orientation.

    Example:
        >>> orientation_of(None, b'<rdf:Description tiff:Orientation="6"/>')
        6
    """
    value = _from_exif(exif) if exif else None
    if value is None and xmp and (found := _XMP.search(xmp)):
        value = int(found[1])
    return value if value is not None and value in range(1, 9) else 1


def _from_exif(data: bytes) -> int | None:
    data = re.sub(b"^(?:Exif\0\0){1,2}", b"", data)
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    if start + 2 > len(data):
        return None
    (count,) = struct.unpack_from(f"{order}H", data, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", data, at)
        if tag == _TAG:
            if values != 1 or kind not in (_SHORT, _LONG):
                return 1
            return int(struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", data, at + 8)[0])
    return None
