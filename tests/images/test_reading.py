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

LOSSLESS = ["PNG", "TIFF", "BMP", "WEBP"]


def photo(h: int = 5, w: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def smooth(h: int = 48, w: int = 64) -> np.ndarray:
    y, x = np.mgrid[:h, :w]
    return np.stack([255 * y / h, 255 * x / w, 128 + 0 * x], axis=2).astype(np.uint8)


def encoded(image: PIL.Image.Image | np.ndarray, format_: str, **options: object) -> bytes:
    image = PIL.Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def exif_of(orientation: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif


def upright_oracle(stored: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF 2.3, table of orientation: which side of the scene row 0 and column 0 of the file are."""
    sides = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }  # fmt: skip
    row0, col0 = sides[orientation]
    n_rows, n_cols = stored.shape[:2]
    swapped = row0 in ("left", "right")
    h, w = (n_cols, n_rows) if swapped else (n_rows, n_cols)
    scene = np.zeros((h, w, 3), np.uint8)
    for i in range(n_rows):
        for j in range(n_cols):
            along = {row0: i, col0: j}
            y = along["top"] if "top" in along else h - 1 - along["bottom"]
            x = along["left"] if "left" in along else w - 1 - along["right"]
            scene[y, x] = stored[i, j]
    return scene


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    out = np.zeros_like(rgb)
    for index in np.ndindex(*rgb.shape):
        a = alpha[index[:2]] / 255
        out[index] = round(float(rgb[index]) * a + 255 * (1 - a))
    return out


def close(a: np.ndarray, b: np.ndarray, atol: int) -> bool:
    return a.shape == b.shape and int(np.abs(a.astype(int) - b.astype(int)).max()) <= atol


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


# --- 16 bits and other modes ---


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
