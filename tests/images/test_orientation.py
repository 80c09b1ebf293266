"""Wherever the orientation is, pixels and size agree on it."""

import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.features
import PIL.Image
import pytest

from tagmask.data.pixels import plain, read_labels
from tagmask.images import image_size, read_image
from tagmask.images.orientation import orientation_of
from tagmask.masks import index_png
from tests.images import hostile

XMP = '<x:xmpmeta><rdf:Description tiff:Orientation="{}"/></x:xmpmeta>'
ELEMENT = "<tiff:Orientation>{}</tiff:Orientation>"


def profile(orientation: int) -> bytes:
    """ImageMagick's form of EXIF."""
    data = hostile.exif(orientation)
    return b"Raw profile type exif\0" + f"\nexif\n{len(data):8}\n{data.hex()}\n".encode()


def zipped(text: bytes) -> bytes:
    key, _, value = text.partition(b"\0")
    return key + b"\0\0" + zlib.compress(value)


def itxt(text: str, *, packed: bool = False) -> bytes:
    value = zlib.compress(text.encode()) if packed else text.encode()
    return b"XML:com.adobe.xmp\0" + (b"\1\0" if packed else b"\0\0") + b"en\0key\0" + value


CHUNKS = {
    "eXIf": lambda o: hostile.chunk(b"eXIf", hostile.exif(o)),
    "tEXt": lambda o: hostile.chunk(b"tEXt", profile(o)),
    "zTXt": lambda o: hostile.chunk(b"zTXt", zipped(profile(o))),
    "iTXt": lambda o: hostile.chunk(b"iTXt", itxt(XMP.format(o))),
    "packed iTXt": lambda o: hostile.chunk(b"iTXt", itxt(ELEMENT.format(o), packed=True)),
}
ROWS = b"\0\1\2\3" + b"\0\4\5\6"
TURNED = {1: [[1, 2, 3], [4, 5, 6]], 3: [[6, 5, 4], [3, 2, 1]], 6: [[4, 1], [5, 2], [6, 3]]}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", CHUNKS)
def test_png(kind: str, place: str, orientation: int, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    chunks = [CHUNKS[kind](orientation)]
    file.write_bytes(hostile.png((2, 3), 8, 0, ROWS, **{place: chunks}))
    assert read_image(file)[..., 0].tolist() == TURNED[orientation]
    assert image_size(file) == read_image(file).shape[:2]
    with PIL.Image.open(file) as image:
        assert np.array_equal(read_image(image), read_image(file))


def photo(file: Path, format_: str, **options: object) -> None:
    y, x = np.mgrid[:16, :24]
    PIL.Image.fromarray(np.stack([16 * y, 10 * x, 0 * x], axis=2).astype(np.uint8)).save(
        file, format_, **options
    )


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("text", [XMP, ELEMENT])
@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "TIFF", "AVIF"])
def test_xmp(format_: str, text: str, orientation: int, tmp_path: Path) -> None:
    if format_ == "AVIF" and not PIL.features.check("avif"):
        pytest.skip("Pillow without AVIF")
    file = tmp_path / "a"
    packet = text.format(orientation).encode()
    if format_ == "TIFF":
        photo(file, format_, tiffinfo={700: packet})
    elif format_ == "JPEG":
        photo(file, format_)
        segment = b"http://ns.adobe.com/xap/1.0/\0" + packet
        data = file.read_bytes()
        file.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:])
    else:
        photo(file, format_, xmp=packet)
    read = read_image(file)
    photo(file.with_name("b"), format_)
    turns = {1: 0, 8: 1, 3: 2, 6: 3}[orientation]
    assert np.array_equal(read, np.rot90(read_image(file.with_name("b")), turns))
    assert image_size(file) == read.shape[:2]


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_decides_if_xmp_says_otherwise(format_: str, tmp_path: Path) -> None:
    if format_ == "AVIF" and not PIL.features.check("avif"):
        pytest.skip("Pillow without AVIF")
    exif = PIL.Image.Exif()
    exif[274] = 6
    options: dict[str, object] = {"exif": exif}
    packet = XMP.format(1).encode()
    options |= {"tiffinfo": {700: packet, 274: 6}} if format_ == "TIFF" else {}
    options |= {"xmp": packet} if format_ in ("WEBP", "AVIF") else {}
    photo(tmp_path / "a", format_, **options)
    assert image_size(tmp_path / "a") == read_image(tmp_path / "a").shape[:2] == (24, 16)


@pytest.mark.filterwarnings("ignore:Metadata Warning")
@pytest.mark.parametrize(("kind", "count", "value"), [(3, 2, 6), (1, 1, 6), (3, 1, 9), (3, 1, 0), (4, 1, 6)])
def test_malformed_orientation_of_a_tiff(kind: int, count: int, value: int, tmp_path: Path) -> None:
    """Pillow takes the first of two values, and no byte."""
    at = 8 + 2 + 12 * 10 + 4
    tags = [(256, 3, 1, 3), (257, 3, 1, 2), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, at)]
    tags += [(274, kind, count, value), (277, 3, 1, 1), (278, 3, 1, 2), (279, 4, 1, 6)]
    (tmp_path / "a").write_bytes(hostile.tiff(tags, bytes(range(1, 7))))
    read = read_image(tmp_path / "a")[..., 0]
    assert read.tolist() == TURNED[6 if kind == 4 or count == 2 else 1]
    assert image_size(tmp_path / "a") == read.shape


def test_damaged_orientation_is_ignored_by_both(tmp_path: Path) -> None:
    damaged = CHUNKS["eXIf"](6)[:-4] + bytes(4)
    (tmp_path / "a").write_bytes(hostile.png((2, 3), 8, 0, ROWS, after=[damaged]))
    assert image_size(tmp_path / "a") == read_image(tmp_path / "a").shape[:2] == (2, 3)


@pytest.mark.parametrize(
    "data", [b"", b"MM", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff", b"x" * 99]
)
def test_unreadable_exif_is_upright(data: bytes) -> None:
    assert orientation_of(data) == 1


def test_exif_may_have_its_prefix_and_either_byte_order() -> None:
    for order in "<>":
        for prefix in (b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"):
            assert orientation_of(prefix + hostile.exif(8, order)) == 8


@pytest.mark.parametrize("kind", CHUNKS)
def test_own_masks_fit_their_images(kind: str, tmp_path: Path) -> None:
    image, mask = tmp_path / "a.png", tmp_path / "mask.png"
    image.write_bytes(hostile.png((2, 3), 8, 0, ROWS, after=[CHUNKS[kind](6)]))
    labels = np.zeros(read_image(image).shape[:2], np.uint8)
    mask.write_bytes(index_png(labels))
    assert np.array_equal(read_labels(mask, image, plain(1)), labels)
