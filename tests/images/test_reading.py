"""Unusual and damaged images, built byte by byte, compared with rules written as loops."""

import errno
import inspect
import io
import os
import struct
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.errors import ImageError
from tagmask.images import decode, image_size, read_image
from tests.images.pictures import close, encoded, exif_of, photo, smooth, upright_oracle

LOSSLESS = ["PNG", "TIFF", "BMP", "WEBP"]


# --- what can be read ---


@pytest.mark.parametrize("format_", LOSSLESS)
@pytest.mark.parametrize("how", ["str", "path", "bytes", "pil", "lazy"])
def test_every_source_and_format(tmp_path: Path, format_: str, how: str) -> None:
    data = encoded(photo(), format_, **({"lossless": True} if format_ == "WEBP" else {}))
    file = tmp_path / "no_suffix"
    file.write_bytes(data)
    if how == "lazy":
        with PIL.Image.open(file) as image:
            read = read_image(image)
    else:
        pil = PIL.Image.fromarray(photo())
        read = read_image({"str": str(file), "path": file, "bytes": data, "pil": pil}[how])
    assert np.array_equal(read, photo())
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    assert read.flags.owndata
    assert read.flags.writeable


@pytest.mark.parametrize("suffix", ["png", "txt", "gif"])
def test_content_decides_not_the_suffix(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"x.{suffix}"
    file.write_bytes(encoded(smooth(), "JPEG", quality=95))
    assert close(read_image(file), smooth(), 8)


def test_gif_of_few_colours() -> None:
    image = photo()
    image[:] = np.where(image > 127, 255, 0)
    assert np.array_equal(read_image(encoded(image, "GIF")), image)


@pytest.mark.parametrize(
    ("format_", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})]
)
def test_first_frame(format_: str, options: dict[str, object]) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    frames = [PIL.Image.new("RGB", (6, 4), colour) for colour in colours]
    data = encoded(frames[0], format_, save_all=True, append_images=frames[1:], **options)
    with PIL.Image.open(io.BytesIO(data)) as check:
        assert check.n_frames == 3
    assert (read_image(data) == colours[0]).all()


@settings(deadline=None, max_examples=15)
@given(h=st.integers(1, 9), w=st.integers(1, 9), orientation=st.integers(1, 8))
def test_orientation_of_any_size(h: int, w: int, orientation: int) -> None:
    stored = photo(h, w)
    data = encoded(stored, "PNG", exif=exif_of(orientation))
    assert np.array_equal(read_image(data), upright_oracle(stored, orientation))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "I;16 PNG", "multi-page TIFF"])
def test_orientation_of_formats(format_: str, orientation: int) -> None:
    stored = smooth(16, 24)
    if format_ == "I;16 PNG":
        stored[..., 0] = stored[..., 2] = stored[..., 1]
        grey = PIL.Image.fromarray(stored[..., 0].astype(np.uint16) * 257)
        data = encoded(grey, "PNG", exif=exif_of(orientation))
    elif format_ == "multi-page TIFF":
        pages = [PIL.Image.fromarray(photo(3, 4))]
        data = encoded(stored, "TIFF", exif=exif_of(orientation), save_all=True, append_images=pages)
    else:
        options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format_, {})
        data = encoded(stored, format_, exif=exif_of(orientation), **options)
    expected = upright_oracle(stored, orientation)
    assert close(read_image(data), expected, 6 if format_ == "JPEG" else 0)
    with PIL.Image.open(io.BytesIO(data)) as image:
        assert close(read_image(image), expected, 6 if format_ == "JPEG" else 0)


@pytest.mark.parametrize(
    "exif", [b"Exif\x00\x00garbage", b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff", b""]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_ignored(exif: bytes) -> None:
    assert close(read_image(encoded(smooth(), "JPEG", quality=95, exif=exif)), smooth(), 8)


def test_orientation_among_malformed_tags() -> None:
    """The page name is a fraction: readers can skip such a tag, but it cannot be written again."""
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x011D, 5, 1, 38)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4) + struct.pack("<II", 1, 2)
    assert np.array_equal(read_image(encoded(photo(), "PNG", exif=exif)), upright_oracle(photo(), 6))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_out_of_range_is_ignored(orientation: int) -> None:
    assert np.array_equal(read_image(encoded(photo(), "PNG", exif=exif_of(orientation))), photo())


# --- arrays ---


@pytest.mark.parametrize("order", ["C", "F", "reversed"])
def test_array_is_copied(order: str) -> None:
    array = photo()[:, ::-1] if order == "reversed" else np.array(photo(), order=order)  # type: ignore[call-overload]
    expected = array.copy()
    read = read_image(array)
    array[:] = 0
    assert np.array_equal(read, expected)
    assert read.flags.c_contiguous
    assert read.flags.owndata


def test_pil_image_is_left_alone() -> None:
    image = PIL.Image.fromarray(photo())
    image.getexif()[0x0112] = 6
    read = read_image(image)
    read[:] = 0
    assert np.array_equal(np.asarray(image), photo())
    assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (np.zeros((4, 5, 3), np.float32), r"float32 of shape \(4, 5, 3\).*\* 255"),
        (np.zeros((4, 5, 3), bool), "bool"),
        (np.zeros((4, 5), np.uint8), r"shape \(4, 5\).*np.repeat"),
        (np.zeros((4, 5, 4), np.uint8), "fromarray"),
        (np.zeros((3, 4, 5), np.uint8), "moveaxis"),
        (np.zeros((1, 4, 5, 3), np.uint8), "one image at a time"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((5, 0, 3), np.uint8), "no pixels"),
        (np.array(7, np.uint8), r"shape \(\)"),
    ],
)
def test_invalid_arrays_are_refused(array: np.ndarray, advice: str) -> None:
    with pytest.raises(ImageError, match=advice):
        read_image(array)


def test_not_an_image_at_all() -> None:
    with pytest.raises(ImageError, match="Got list"):
        inspect.unwrap(read_image)([1, 2])  # type: ignore[arg-type]


def test_empty_pil_image() -> None:
    with pytest.raises(ImageError, match="no pixels: 0 x 5"):
        read_image(PIL.Image.new("RGB", (5, 0)))


# --- bad files ---


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"hello, world\n", "text, starting 'hello, world"),
        ("gar nichts für ungut, " * 9 + "ü", "text, starting 'gar nichts für"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>", "HTML page"),
        (b"\n <html><body>404", "HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04abc", "zip"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "'heic'"),
        (bytes(100), "all null bytes"),
        (b"\x93\x00\xfe\xff\x01", "unknown data, starting 93 00 fe ff 01"),
        (b"\xff\xd8\xff\xe0", "starts like a JPEG file, but its header is damaged"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "text, starting '%!PS"),
    ],
)
def test_not_an_image(tmp_path: Path, content: bytes | str, message: str) -> None:
    file = tmp_path / "x.jpg"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ImageError, match=r"x\.jpg") as caught:
        read_image(file)
    assert message in str(caught.value)
    with pytest.raises(ImageError, match="bytes"):
        read_image(file.read_bytes())


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated(tmp_path: Path, format_: str, part: float) -> None:
    data = encoded(photo(64, 64), format_)
    file = tmp_path / "x.png"
    file.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ImageError, match=r"x\.png.*(damaged|not one of)"):
        read_image(file)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), format_=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"]))
def test_damaged_bytes_read_or_raise_image_error(data: st.DataObject, format_: str) -> None:
    content = bytearray(encoded(smooth(12, 16), format_))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[at] = data.draw(st.integers(0, 255))
    try:
        read = read_image(bytes(content))
    except ImageError:
        return
    assert read.dtype == np.uint8
    assert read.ndim == 3


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"There is no file .*nothing\.jpg"):
        read_image(tmp_path / "nothing.jpg")
    with pytest.raises(ImageError, match="URLs are not fetched"):
        read_image("https://example.org/cat.jpg")


def test_folder_pipe_and_bad_names(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").mkdir()
    with pytest.raises(ImageError, match=r"x\.jpg is a folder"):
        read_image(tmp_path / "x.jpg")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="pipe or a device"):
        read_image(tmp_path / "pipe")
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image("a\0b.jpg")
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image("a" * 5000)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ImageError, match="cannot be opened"):
        read_image(tmp_path / "file" / "x.jpg")


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "x.png").write_bytes(encoded(photo(), "PNG"))
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"x\.png' cannot be opened: Permission denied"):
        read_image(tmp_path / "x.png")


# --- the pixel limit ---


@pytest.mark.parametrize("size", [(10, 10), (11, 10), (50, 50)])
@pytest.mark.parametrize("format_", [*LOSSLESS, "JPEG", "GIF", "pil"])
@pytest.mark.parametrize("action", ["error", "default"])
def test_pixel_limit(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], format_: str, action: str
) -> None:
    """No size above the limit passes, and Pillow's own warning is neither shown nor leaked."""
    image = PIL.Image.new("RGB", size, (1, 2, 3))
    source = image if format_ == "pil" else encoded(image, format_)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter(action)  # type: ignore[arg-type]
        if size == (10, 10):
            assert read_image(source).shape == (10, 10, 3)
        else:
            with pytest.raises(ImageError, match=r"too large.*raise PIL\.Image\.MAX_IMAGE_PIXELS") as caught:
                read_image(source)
            assert (
                str(size[0] * size[1]) in str(caught.value)
                or f"10 x {size[0]}" in str(caught.value)
                or "50 x 50" in str(caught.value)
            )
    assert not shown
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(source).shape == (size[1], size[0], 3)


def test_huge_header_is_refused_before_decoding() -> None:
    """A PNG that claims 60000 x 60000 pixels would need 10 GB."""
    data = bytearray(encoded(PIL.Image.new("RGB", (1, 1)), "PNG"))
    data[16:24] = struct.pack(">II", 60000, 60000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    started = time.monotonic()
    with pytest.raises(ImageError, match=r"60000 x 60000.*limit of 89478485"):
        read_image(bytes(data))
    assert time.monotonic() - started < 1


def test_threads() -> None:
    """Valid and invalid images in many threads; the warning filters stay unchanged."""
    good = [encoded(photo(40, 30, seed), "PNG") for seed in range(4)]
    failures: list[object] = []

    def work(index: int) -> None:
        for _ in range(10):
            if not np.array_equal(read_image(good[index % 4]), photo(40, 30, index % 4)):
                failures.append(index)
            with pytest.raises(ImageError):
                read_image(b"nothing")

    filters = list(warnings.filters)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert list(warnings.filters) == filters


def test_decode_keeps_mode_and_orientation() -> None:
    data = encoded(PIL.Image.new("L", (3, 5)), "PNG", exif=exif_of(6))
    assert (decode(data).mode, decode(data).size) == ("L", (3, 5))
    with pytest.raises(ImageError, match="not one of JPEG;"):
        decode(data, formats=("JPEG",))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_image_size_is_that_of_the_upright_pixels(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    for orientation in range(1, 9):
        exif = PIL.Image.Exif()
        exif[PIL.ExifTags.Base.Orientation] = orientation
        PIL.Image.new("RGB", (5, 3)).save(path, exif=exif)
        assert image_size(path) == read_image(path).shape[:2]
    path.write_bytes(b"")
    with pytest.raises(ImageError, match="an empty file"):
        image_size(path)


def test_image_size_does_not_decode(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    PIL.Image.fromarray(photo(40, 60)).save(path)
    path.write_bytes(path.read_bytes()[:200])
    assert image_size(path) == (40, 60)
