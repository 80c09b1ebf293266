"""Grey of more or fewer than 8 bits: none becomes black without a warning, and transparency stays."""

import logging
import struct

import numpy as np
import PIL.Image
import pytest

from tagmask.errors import ImageError
from tagmask.images import read_image
from tests.images import hostile


def grey16_png(values: np.ndarray, key: int | None = None) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    before = [] if key is None else [hostile.chunk(b"tRNS", struct.pack(">H", key))]
    return hostile.png(values.shape, 16, 0, rows, before)


@pytest.mark.parametrize("how", ["TIFF", "pil"])
def test_integers_that_are_8_bit_grey_are_not_black(how: str, caplog: pytest.LogCaptureFixture) -> None:
    values = np.array([[0, 1, 128, 255]], np.int32)
    read = read_image(hostile.grey_tiff(values) if how == "TIFF" else PIL.Image.fromarray(values))
    assert read[..., 0].tolist() == values.tolist()
    (record,) = caplog.records
    assert "none is over 255" in record.getMessage()


@pytest.mark.parametrize("white", [1023, 4095])
@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_nearly_black_is_warned_of(white: int, format_: str, caplog: pytest.LogCaptureFixture) -> None:
    values = np.array([[0, white // 2, white]], np.uint16)
    data = grey16_png(values) if format_ == "PNG" else hostile.grey_tiff(values)
    assert read_image(data)[..., 0].tolist() == [[round(v / 257) for v in values[0]]]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"no value is over {white} of 65535" in record.getMessage()
    assert "bytes given" in record.getMessage()


@pytest.mark.parametrize("values", [[[0, 0]], [[0, 4096]], [[65535, 7]]])
def test_black_and_ordinary_16_bit_grey_are_not_warned_of(
    values: list[list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    read_image(grey16_png(np.array(values, np.uint16)))
    assert not caplog.records


def test_integers_of_16_bits_are_scaled_as_such() -> None:
    assert read_image(hostile.grey_tiff(np.array([[0, 257, 65535]], np.int32)))[..., 0].tolist() == [
        [0, 1, 255]
    ]


def test_float_tiff_is_refused() -> None:
    with pytest.raises(ImageError, match=r"mode F.*Scale them"):
        read_image(hostile.encoded(PIL.Image.new("F", (2, 2), 0.5), "TIFF"))


def test_16_bit_grey_whose_white_is_zero() -> None:
    values = np.array([[0, 257, 65535]], np.uint16)
    assert read_image(hostile.grey_tiff(values, white_is_zero=True))[..., 0].tolist() == [[255, 254, 0]]


def test_transparent_grey_of_16_bits() -> None:
    values = np.array([[1000, 30000, 65535]], np.uint16)
    assert read_image(grey16_png(values, key=1000))[..., 0].tolist() == [[255, 117, 255]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_transparent_grey_of_few_bits(depth: int) -> None:
    """The key is in stored values, the pixels are decoded to 0..255."""
    darkest, key = 0, 2**depth - 2 if depth > 1 else 0
    packed = bytes([darkest << 8 - depth | key << 8 - 2 * depth]) if depth < 8 else bytes([darkest, key])
    data = hostile.png((1, 2), depth, 0, b"\0" + packed, [hostile.chunk(b"tRNS", struct.pack(">H", key))])
    assert read_image(data)[0, :, 0].tolist() == [255 if key == darkest else 0, 255]


def test_transparent_colour_of_16_bits() -> None:
    row = struct.pack(">6H", 257, 514, 771, 2570, 5140, 7710)
    data = hostile.png(
        (1, 2), 16, 2, b"\0" + row, [hostile.chunk(b"tRNS", struct.pack(">3H", 257, 514, 771))]
    )
    assert read_image(data).tolist() == [[[255, 255, 255], [10, 20, 30]]]
