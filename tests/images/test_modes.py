"""Pictures of 16 bits and of other modes than RGB."""

import struct

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest

from tagmask.errors import ImageError
from tagmask.images import read_image
from tests.images.pictures import close, encoded, on_white, photo

LOSSLESS = ["PNG", "TIFF", "BMP", "WEBP"]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I"])
def test_sixteen_bits_are_scaled(mode: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    order = {"I;16B": ">u2", "I": "=i4"}.get(mode, "<u2")
    image = PIL.Image.frombytes(mode, (256, 256), values.astype(order).tobytes())
    read = read_image(image)
    expected = [round(v / 257) for v in range(65536)]
    assert read[..., 0].ravel().tolist() == expected
    assert (read == read[..., :1]).all()
    assert abs(read.mean() - 127.5) < 1e-6


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_sixteen_bit_files(format_: str) -> None:
    ramp = np.linspace(0, 65535, 300 * 200).round().astype(np.uint16).reshape(200, 300)
    read = read_image(encoded(ramp, format_))
    assert read.shape == (200, 300, 3)
    assert abs(read.mean() - 127.5) < 0.01
    assert close(read[..., 0], np.round(ramp / 257), 0)


def twelve_bit_tiff(pairs: list[tuple[int, int]]) -> bytes:
    strip = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    short = lambda tag, value: struct.pack("<HHIHH", tag, 3, 1, value, 0)  # noqa: E731
    entries = [short(256, 2), short(257, len(pairs)), short(258, 12), short(259, 1), short(262, 1)]
    offset = 8 + 2 + 12 * 9 + 4
    entries += [struct.pack("<HHII", 273, 4, 1, offset), short(277, 1), short(278, len(pairs))]
    entries += [struct.pack("<HHII", 279, 4, 1, len(strip))]
    return b"II*\0" + struct.pack("<IH", 8, 9) + b"".join(entries) + bytes(4) + strip


def test_twelve_bit_tiff_is_not_nearly_black() -> None:
    read = read_image(twelve_bit_tiff([(0, 4095), (2048, 100), (1, 4000)]))
    assert read[..., 0].tolist() == [[0, 255], [round(2048 * 255 / 4095), 6], [0, round(4000 * 255 / 4095)]]


@pytest.mark.parametrize("array", [np.array([[-1, 5]], np.int32), np.array([[0, 65536]], np.int32)])
def test_integers_out_of_range(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=f"integers {array.min()}..{array.max()}.*0..65535"):
        read_image(PIL.Image.fromarray(array))


@pytest.mark.parametrize("as_file", [False, True])
def test_float_pixels(as_file: bool) -> None:
    image = PIL.Image.new("F", (3, 2), 0.5)
    with pytest.raises(ImageError, match=r"mode F.*Scale them to 0\.\.255"):
        read_image(encoded(image, "TIFF") if as_file else image)


def test_mode_that_does_not_convert_to_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(image: PIL.Image.Image, mode: str) -> None:
        raise ValueError(f"conversion from {image.mode} to {mode} not supported")

    monkeypatch.setattr(PIL.Image.Image, "convert", refuse)
    with pytest.raises(ImageError, match=r"colour mode HSV.*Save it as RGB"):
        read_image(PIL.Image.new("HSV", (3, 2)))


@pytest.mark.parametrize("mode", ["LAB", "HSV", "YCbCr", "RGBX"])
def test_other_colours(mode: str) -> None:
    white = {"LAB": (255, 128, 128), "HSV": (0, 0, 255), "YCbCr": (255, 128, 128)}.get(mode, (255, 255, 255))
    image = PIL.Image.new(mode, (3, 2), white)
    assert (read_image(image) > 250).all()


@pytest.mark.parametrize("format_", ["pil", "TIFF", "JPEG"])
def test_cmyk(format_: str) -> None:
    inks = {(0, 0, 0, 0): (255, 255, 255), (255, 0, 0, 0): (0, 255, 255), (0, 255, 255, 0): (255, 0, 0),
            (0, 0, 0, 255): (0, 0, 0), (0, 0, 0, 128): (127, 127, 127)}  # fmt: skip
    for ink, colour in inks.items():
        image = PIL.Image.new("CMYK", (16, 8), ink)
        read = read_image(image if format_ == "pil" else encoded(image, format_))
        assert close(read, np.full((8, 16, 3), colour, np.uint8), 3), ink


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey(mode: str) -> None:
    image = PIL.Image.fromarray(photo()[..., 0]).convert(mode)
    expected = np.repeat(np.asarray(image.convert("L"))[..., None], 3, axis=2)
    assert np.array_equal(read_image(image), expected)
    assert np.array_equal(read_image(encoded(image, "PNG")), expected)


def test_palette() -> None:
    image = PIL.Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image = image.convert("P")
    image.putpalette([9, 8, 7, 200, 100, 0, 1, 2, 3])
    assert read_image(encoded(image, "PNG")).tolist() == [[[9, 8, 7], [200, 100, 0], [1, 2, 3]]]


@pytest.mark.parametrize("format_", ["pil", "PNG", "WEBP", "TIFF"])
def test_rgba_on_white(format_: str) -> None:
    alpha = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7
    alpha[0, 0], alpha[-1, -1] = 0, 255
    image = PIL.Image.fromarray(np.dstack([photo(), alpha]))
    source = (
        image
        if format_ == "pil"
        else encoded(image, format_, **({"lossless": True, "exact": True} if format_ == "WEBP" else {}))
    )
    assert close(read_image(source), on_white(photo(), alpha), 1)


@pytest.mark.parametrize("mode", ["LA", "La", "RGBa", "PA"])
def test_other_alpha_on_white(mode: str) -> None:
    """Grey 100 (premultiplied: 50) at half opacity, next to fully clear, next to opaque."""
    first = (100, 100, 100) if mode == "RGBa" else (100,)
    image = PIL.Image.new({"La": "LA", "RGBa": "RGBA"}.get(mode, mode), (3, 1))
    if mode == "PA":
        image.putpalette([100] * 768)
    for x, alpha in enumerate([128, 0, 255]):
        image.putpixel((x, 0), (*first, alpha))
    image = image.convert(mode)
    assert image.mode == mode
    assert close(read_image(image), np.repeat(np.array([[[177], [255], [100]]]), 3, axis=2), 2)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0, 128])])
def test_palette_with_transparency_on_white(transparency: int | bytes) -> None:
    image = PIL.Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette([9, 8, 7, 200, 100, 0, 1, 2, 3])
    read = read_image(encoded(image, "PNG", transparency=transparency))
    last = (1, 2, 3) if transparency == 1 else (127, 128, 128)
    assert close(read, np.array([[(9, 8, 7), (255, 255, 255), last]]), 1)


def test_transparent_gif_on_white() -> None:
    image = PIL.Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([9, 8, 7, 200, 100, 0])
    assert read_image(encoded(image, "GIF", transparency=1)).tolist() == [[[9, 8, 7], [255, 255, 255]]]


def test_colour_key_on_white() -> None:
    image = PIL.Image.fromarray(np.array([[[9, 8, 7], [1, 2, 3]]], np.uint8))
    assert read_image(encoded(image, "PNG", transparency=(1, 2, 3))).tolist() == [
        [[9, 8, 7], [255, 255, 255]]
    ]
