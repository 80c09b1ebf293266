"""Index PNGs keep every label; the colours of palettes and overlays."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

from tagmask.errors import ImageError, ShapeError
from tagmask.masks import (
    index_png,
    overlay_colours,
    palette,
    read_index_png,
)


def encoded(image: PIL.Image.Image, format_: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def photo(h: int, w: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)


# --- the palette ---


def voc_colour(index: int) -> list[int]:
    """VOCcolormap.m, line by line."""
    r = g = b = 0
    c = index
    for j in range(8):
        r |= (c & 1) << (7 - j)
        g |= (c >> 1 & 1) << (7 - j)
        b |= (c >> 2 & 1) << (7 - j)
        c >>= 3
    return [r, g, b]


@pytest.mark.parametrize("n", [0, 1, 21, 256])
def test_palette(n: int) -> None:
    assert palette(n).tolist() == [voc_colour(i) for i in range(n)]
    assert palette(n).shape == (n, 3)


# --- index PNGs ---

labels_8 = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9))
labels_16 = arrays.arrays(np.uint16, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9))


@settings(deadline=None, max_examples=40)
@given(labels=labels_8 | labels_16)
def test_round_trip(labels: np.ndarray) -> None:
    back = read_index_png(index_png(labels))
    assert back.dtype == labels.dtype
    assert np.array_equal(back, labels)
    assert back.flags.owndata


@pytest.mark.parametrize("dtype", ["uint8", "<u2", ">u2"])
def test_round_trip_of_views(dtype: str, tmp_path: Path) -> None:
    labels = np.arange(60).reshape(6, 10).astype(dtype)[::2, ::-3]
    file = tmp_path / "mask"
    file.write_bytes(index_png(labels))
    assert np.array_equal(read_index_png(file), labels)
    assert np.array_equal(read_index_png(str(file)), labels)


def test_other_programs_read_palette_and_indices() -> None:
    labels = np.array([[0, 1, 20], [255, 7, 128]], np.uint8)
    data = index_png(labels)
    width, height, depth, colour_type = struct.unpack(">IIBB", data[16:26])
    assert (width, height, depth, colour_type) == (3, 2, 8, 3)
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)
        assert np.asarray(image.convert("RGB")).tolist() == [[voc_colour(i) for i in row] for row in labels]


def test_sixteen_bits_are_grey() -> None:
    data = index_png(np.array([[0, 256, 65535]], np.uint16))
    assert struct.unpack(">IIBB", data[16:26]) == (3, 1, 16, 0)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_pixels(shape: tuple[int, int]) -> None:
    with pytest.raises(ShapeError, match="at least one pixel"):
        index_png(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_any_depth_and_colours(bits: int) -> None:
    labels = np.arange(2**bits, dtype=np.uint8)[None]
    image = PIL.Image.fromarray(labels)
    image.putpalette(np.random.default_rng(1).integers(0, 256, 3 * 2**bits).tolist())
    data = encoded(image, bits=bits)
    assert data[24] == bits
    assert np.array_equal(read_index_png(data), labels)


def test_eight_bit_grey_is_indices() -> None:
    labels = np.array([[0, 9, 255]], np.uint8)
    assert np.array_equal(read_index_png(encoded(PIL.Image.fromarray(labels))), labels)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_that_pillow_would_rescale_is_refused(bits: int) -> None:
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0),
        b"IDAT": zlib.compress(bytes(1 + bits)),
    }
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in (*chunks.items(), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    with pytest.raises(ImageError, match=f"of {bits} bits"):
        read_index_png(data)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colour_images_are_refused(mode: str, tmp_path: Path) -> None:
    data = encoded(PIL.Image.new(mode, (3, 2)))
    with pytest.raises(ImageError, match=f"The bytes given: got mode {mode} .*Save the indices"):
        read_index_png(data)
    file = tmp_path / "seen.png"
    file.write_bytes(data)
    with pytest.raises(ImageError, match=r"seen\.png: "):
        read_index_png(file)


def test_jpeg_is_refused() -> None:
    with pytest.raises(ImageError, match="not one of PNG"):
        read_index_png(encoded(PIL.Image.new("L", (3, 2)), "JPEG"))


def test_missing_mask(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="There is no file"):
        read_index_png(tmp_path / "gone.png")


# --- overlay colours ---


def test_first_colours_do_not_depend_on_how_many() -> None:
    many = overlay_colours(300)
    for n in (0, 1, 2, 21):
        assert np.array_equal(overlay_colours(n), many[:n])


def test_colours_are_distinct_and_neither_dark_nor_grey() -> None:
    colours = overlay_colours(171).astype(int)
    assert len({tuple(c) for c in colours.tolist()}) == 171
    assert (colours.max(axis=1) > 120).all()
    assert (np.ptp(colours, axis=1) > 50).all()
    first = colours[:12]
    gaps = np.abs(first[:, None] - first).sum(axis=2) + 1000 * np.eye(12)
    assert gaps.min() > 60


def test_colours_repeat_at_last() -> None:
    assert overlay_colours(3000).shape == (3000, 3)
