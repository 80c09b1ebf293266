"""Small files that would cost much are refused before they are decoded; what nothing needs is not read."""

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import PIL.features
import PIL.Image
import pytest

from tagmask.errors import ImageError
from tagmask.images import image_size, read_image
from tagmask.masks import read_index_png
from tests.images import hostile

BOMB = zlib.compress(bytes(30_000_000), 9)
DOT = b"\0\7"
"""Rows of a PNG of one grey pixel."""


def grey_png(before: list[bytes] = [], after: list[bytes] = []) -> bytes:  # noqa: B006 - not changed
    return hostile.png((1, 1), 8, 0, DOT, before, after)


def jpeg(extra: bytes) -> bytes:
    data = hostile.encoded(PIL.Image.new("RGB", (8, 8)), "JPEG")
    return data[:2] + extra + data[2:]


def gif(extra: bytes) -> bytes:
    data = hostile.encoded(PIL.Image.new("L", (8, 8)).convert("P"), "GIF")
    at = 13 + (3 << (data[10] & 7) + 1)
    return data[:at] + extra + data[at:]


def rle_bmp(size: tuple[int, int], runs: bytes) -> bytes:
    head = struct.pack("<IIIHHIIIIII", 40, size[1], size[0], 1, 8, 1, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + head + bytes(1024) + runs


def tags(*more: tuple[int, int, int, int]) -> bytes:
    fixed = [(256, 3, 1, 1), (257, 3, 1, 1), (259, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 1)]
    return hostile.tiff(sorted({tag[0]: tag for tag in [*fixed, *more]}.values()), bytes(4096))


COSTLY = {
    "narrow png": (lambda: hostile.png((70_000, 1), 8, 0, bytes(140_000)), "limit of 65535 pixels a side"),
    "webp canvas": (lambda: hostile.webp((16383, 16383)), "limit of 89478485 pixels"),
    "animated webp canvas": (
        lambda: hostile.riff([(b"VP8X", b"\2\0\0\0" + b"\xff\xff\0" * 2), (b"ANIM", bytes(6))]),
        "65536 x 65536",
    ),
    "gif screen": (lambda: gif(b"")[:6] + b"\xff" * 4 + gif(b"")[10:], "65535 x 65535"),
    "jpeg scans": (lambda: hostile.scans(1000), "more than 48 scans"),
    "jpeg metadata": (lambda: jpeg((b"\xff\xe2\xff\xff" + bytes(65533)) * 1100), "64 MB of metadata"),
    "png chunks": (lambda: grey_png([hostile.chunk(b"prVt", b"")] * 1000), "1,000 chunks"),
    "png data": (
        lambda: grey_png()[:-12] + hostile.chunk(b"IDAT", bytes(70_000_000)),
        "MB of compressed data",
    ),
    "gif comments": (lambda: gif(b"!\xfe" + b"\1a" * 1500 + b"\0"), "1,000 blocks"),
    "gif extensions": (lambda: gif(b"!\xfe\0" * 1500), "1,000 blocks"),
    "tiff tiles": (lambda: tags((322, 4, 1, 60_000), (323, 4, 1, 60_000)), "60000 x 60000 pixels"),
    "tiff values": (lambda: tags((258, 3, 1_000_000, 8)), "its tag 258 has 1,000,000 values"),
    "tiff data": (lambda: tags(*((700 + i, 1, 2_000_000, 8) for i in range(100))), "its tags have 200 MB"),
    "bmp runs": (lambda: rle_bmp((1, 1), b"\1\1" * 6_000_000), "MB of run lengths"),
    "ppm comments": (lambda: b"P3\n1 1\n255\n" + b"#\n" * 5000 + b"1 1 1\n", "1,000 comments"),
    "ppm range": (lambda: b"P6\n4000 4000\n1023\n", "48,000,000 samples"),
    "jpeg 2000 precincts": (lambda: hostile.jpeg2000((1000, 1000), precincts=1), "999,754 precincts"),
    "jpeg 2000 layers": (lambda: hostile.jpeg2000((64, 64), layers=65535), "65,535 layers"),
    "jpeg 2000 tiles": (lambda: hostile.jpeg2000((256, 256), tile=(16, 16)), "256 tiles"),
}


@pytest.mark.parametrize("name", COSTLY)
def test_costly_files_are_refused_from_their_headers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("gif", "png"):
        monkeypatch.setattr(f"tagmask.images.{module}.MAX_PARTS", 1000)  # 250 times as many take seconds here
    build, reason = COSTLY[name]
    file = tmp_path / "bomb.img"
    file.write_bytes(build())
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match=reason) as caught:
            read_image(file)
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith(str(file))
    assert "PIL.Image.MAX_IMAGE_PIXELS" in str(caught.value)


UNUSED = {
    "zTXt": lambda: grey_png([hostile.chunk(b"zTXt", b"k\0\0" + BOMB)] * 80),
    "iTXt": lambda: grey_png([hostile.chunk(b"iTXt", b"k\0\1\0\0\0" + BOMB)]),
    "iCCP": lambda: grey_png([hostile.chunk(b"iCCP", b"k\0\0" + BOMB)]),
    "late zTXt": lambda: grey_png(after=[hostile.chunk(b"zTXt", b"k\0\0" + BOMB)] * 80),
    "private": lambda: grey_png([hostile.chunk(b"prVt", bytes(20_000_000))]),
    "orientation": lambda: grey_png([hostile.chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB)]),
    "damaged text": lambda: grey_png([hostile.chunk(b"tEXt", b"a\0b")[:-4] + bytes(4)]),
    "jpeg profile": lambda: jpeg((b"\xff\xe2\xff\xff" + b"ICC_PROFILE\0\1\1" + bytes(65519)) * 300),
}


@pytest.mark.parametrize("name", UNUSED)
def test_what_the_pixels_do_not_need_is_not_read(name: str, tmp_path: Path) -> None:
    """Bombs and damage in text, profiles and comments neither cost memory nor refuse the image."""
    file = tmp_path / "image"
    file.write_bytes(UNUSED[name]())
    read_image(hostile.encoded(PIL.Image.new("L", (1, 1)), "PNG"))  # Pillow's imports
    tracemalloc.start()
    try:
        assert read_image(file).shape in ((1, 1, 3), (8, 8, 3))
        assert tracemalloc.get_traced_memory()[1] < 16e6
    finally:
        tracemalloc.stop()


def test_only_the_first_frame_of_a_webp_is_given_to_its_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [PIL.Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(50)]
    data = hostile.encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    given = []
    factory, accept = PIL.Image.OPEN["WEBP"]

    def recorded(stream: io.BufferedReader, name: str) -> PIL.Image.Image:
        given.append(len(stream.read()))
        stream.seek(0)
        return factory(stream, name)

    monkeypatch.setitem(PIL.Image.OPEN, "WEBP", (recorded, accept))
    assert (read_image(data) == 0).all()
    assert given[0] < len(data) / 10


def test_limits_can_be_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(COSTLY["narrow png"][0]()).shape == (70_000, 1, 3)
    assert read_image(hostile.scans(100)).shape == (16, 16, 3)


def test_ordinary_scans_are_read() -> None:
    assert read_image(hostile.scans(18)).shape == (16, 16, 3)


def test_scans_of_a_second_image_do_not_count() -> None:
    """Phones append videos and other images."""
    data = hostile.encoded(PIL.Image.new("RGB", (16, 16), (9, 9, 9)), "JPEG") + hostile.scans(1000)
    assert (read_image(data) == 9).all()


@pytest.mark.skipif(not PIL.features.check("avif"), reason="Pillow without AVIF")
def test_frames_behind_the_one_that_an_avif_shows_are_counted() -> None:
    """An AV1 decoder decodes hidden frames, of a few bytes each, before the first one that is shown."""
    data = hostile.encoded(PIL.Image.new("RGB", (64, 48)), "AVIF")
    at = data.index(b"iloc") + 4
    assert data[at : at + 8] == b"\0\0\0\0\x44\0\0\1"  # version 0, offsets and lengths of 4 bytes, one item
    start, length = struct.unpack_from(">II", data, at + 14)
    assert data[start : start + 2] == b"\x12\0"  # a temporal delimiter, then the sequence header
    frame = data[start:].index(b"\x32") + start
    frames = data[start : start + length] + data[frame : start + length] * 20
    moved = data[: at + 14] + struct.pack(">II", len(data), len(frames)) + data[at + 22 :] + frames
    with pytest.raises(ImageError, match="more than 16 frames"):
        read_image(moved)
    assert read_image(data).shape == (48, 64, 3)


def test_masks_have_the_same_limits() -> None:
    with pytest.raises(ImageError, match="65535 pixels a side"):
        read_index_png(hostile.png((70_000, 1), 8, 0, bytes(140_000)))
    assert read_index_png(UNUSED["zTXt"]()).tolist() == [[7]]


def test_the_size_of_a_bomb_costs_nothing_either(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(hostile.webp((16383, 16383)))
    with pytest.raises(ImageError, match="too large"):
        image_size(tmp_path / "a")


MEASURE = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
import PIL.Image
from tagmask.images import read_image
PIL.Image.init()
def peak():
    Path("/proc/self/clear_refs").write_text("5")
    yield (start := int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    yield int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 - start
for path in sys.argv[1:]:
    memory = peak()
    next(memory)
    pixels = read_image(path).size // 3
    print(next(memory) / pixels)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_memory_for_each_pixel(tmp_path: Path) -> None:
    """28 bytes of WebP are 9 megapixels; whatever is between them and the result takes 16 bytes a pixel."""
    side = 3000
    files = {
        "webp": hostile.webp((side, side)),
        "png": hostile.png((side, side), 8, 6, bytes(side * (4 * side + 1))),
        "jpg": hostile.encoded(PIL.Image.new("CMYK", (side, side)), "JPEG", progressive=True),
    }
    for ending, data in files.items():
        (tmp_path / f"a.{ending}").write_bytes(data)
    paths = [str(tmp_path / f"a.{ending}") for ending in files]
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True)
    shares = dict(zip(files, map(float, done.stdout.split()), strict=True))
    assert shares["webp"] < 18
    assert shares["png"] < 11  # 4 for the decoded image, 3 for the result, and rows in work
    assert shares["jpg"] < 16
