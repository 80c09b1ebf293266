"""Whatever a decoder raises becomes one `ImageError` that names the file."""

import io
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tagmask.errors import ImageError
from tagmask.images import image_size, read_image
from tagmask.masks import read_index_png
from tests.images import hostile


@pytest.mark.parametrize(
    "error",
    [
        SyntaxError("x"), struct.error("x"), ValueError("x"), OverflowError("x"), AssertionError(),
        EOFError(), zlib.error("x"), RecursionError(), TypeError("x"), IndexError("x"), KeyError("x"),
        OSError("x"), PIL.Image.DecompressionBombError("x"), MemoryError(),
        UnicodeDecodeError("ascii", b"x", 0, 1, "x"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("when", ["open", "load", "convert"])
def test_errors_of_decoders(
    error: Exception, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    file = tmp_path / "a.png"
    file.write_bytes(hostile.png((1, 1), 8, 0, b"\0\7"))
    read_image(file)
    if when == "open":
        _, accept = PIL.Image.OPEN["PNG"]
        monkeypatch.setitem(PIL.Image.OPEN, "PNG", (fail, accept))
    else:
        monkeypatch.setattr(
            "PIL.PngImagePlugin.PngImageFile.load" if when == "load" else "PIL.Image.Image.convert", fail
        )
    with pytest.raises(ImageError) as caught:
        read_image(file)
    assert str(caught.value).startswith(str(file))


def test_palette_colours_without_a_palette(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(hostile.png((1, 1), 8, 3, b"\0\0"))
    for read in (read_image, image_size, read_index_png):
        with pytest.raises(ImageError, match=r"a\.png.* no palette"):
            read(file)


@pytest.mark.parametrize("at", [-5, -20])
def test_pixels_of_a_wrong_checksum(at: int) -> None:
    """Stored, not compressed: without the checksum a changed pixel would be believed."""
    rows = b"".join(b"\0" + bytes(range(16)) for _ in range(16))
    data = bytearray(hostile.png((16, 16), 8, 0, b""))
    body = zlib.compress(rows, 0)
    good = data[: data.index(b"IDAT") - 4] + hostile.chunk(b"IDAT", body) + hostile.chunk(b"IEND", b"")
    assert read_index_png(bytes(good)).shape == (16, 16)
    bad = bytearray(good)
    bad[good.index(b"IEND") - 8 + at] ^= 4
    for read in (read_index_png, read_image):
        with pytest.raises(ImageError, match="checksum of its pixels is wrong"):
            read(bytes(bad))


def test_sizes_that_disagree(tmp_path: Path) -> None:
    data = bytearray(hostile.encoded(PIL.Image.new("RGB", (64, 48)), "JPEG2000"))
    at = data.index(b"ihdr") + 4
    struct.pack_into(">II", data, at, 96, 128)
    (tmp_path / "a.jp2").write_bytes(data)
    for read in (read_image, image_size):
        with pytest.raises(ImageError, match=r"a\.jp2.*disagree"):
            read(tmp_path / "a.jp2")


def seeds() -> list[bytes]:
    y, x = np.mgrid[:12, :16]
    image = PIL.Image.fromarray(np.stack([20 * y, 15 * x, 0 * x], axis=2).astype(np.uint8))
    exif = PIL.Image.Exif()
    exif[274] = 6
    grey = PIL.Image.fromarray((x * 4000).astype(np.uint16))
    files = [
        *(hostile.encoded(image, name, exif=exif) for name in ("JPEG", "PNG", "WEBP", "TIFF")),
        *(hostile.encoded(image.convert("P"), name) for name in ("GIF", "BMP", "PNG")),
        hostile.encoded(image, "JPEG", progressive=True), hostile.encoded(image, "JPEG2000"),
        hostile.encoded(image, "TIFF", compression="tiff_lzw"), hostile.encoded(image, "PPM"),
        hostile.encoded(grey, "PNG"), hostile.encoded(grey, "TIFF"),
        hostile.encoded(image, "WEBP", save_all=True, append_images=[image.rotate(180)]),
    ]  # fmt: skip
    return files


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(min(len(changed), rng.choice([64, 200, 1 << 20]))))
        how = rng.integers(5)
        if how == 0:
            changed[at] = rng.integers(256)
        elif how == 1:
            value = int(rng.choice([0, 1, 255, 65535, 2**31 - 1, 2**31, 2**32 - 1]))
            width = int(rng.choice([1, 2, 4]))
            changed[at : at + width] = (value % 256**width).to_bytes(width, rng.choice(["big", "little"]))
        elif how == 2 and len(changed) > 20:
            del changed[at : at + int(rng.choice([1, 4, 40]))]
        elif how == 3:
            changed[at:at] = changed[: int(rng.choice([1, 4, 40]))]
        else:
            changed = changed[: at + 1]
    return bytes(changed)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutated_files_are_read_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And if they are read, their size is what the header said."""
    caplog.set_level(logging.CRITICAL)
    rng = np.random.default_rng(17)
    files, read = seeds(), 0
    for number in range(1500):
        file = tmp_path / f"{number % 8}"
        file.write_bytes(mutated(files[number % len(files)], rng))
        try:
            pixels = read_image(file)
        except ImageError as error:
            assert str(file) in str(error)  # noqa: PT017 - most are refused
            continue
        read += 1
        assert image_size(file) == pixels.shape[:2]
        with file.open("rb") as stream:
            assert np.array_equal(read_image(io.BytesIO(stream.read()).getvalue()), pixels)
    assert 200 < read < 1300
