"""Files of activation maps from anywhere: read exactly, or refused with one error that names the file."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tagmask.errors import InputError, ShapeError
from tagmask.weak.cam_files import read_cams
from tagmask.weak.pickle_reader import PickleError, read_pickle

SIZE = (13, 17)
Content = dict[object, object]


def maps(*classes: int, kind: str = "<f4", size: tuple[int, int] = SIZE) -> dict[int, np.ndarray]:
    rng = np.random.default_rng(classes)
    return {c: rng.random(size).round(2).astype(kind) for c in classes}


def npy(pickled: bytes) -> bytes:
    """A file as numpy.save writes it around a pickle."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return file.getvalue() + pickled


def wrapped(content: object) -> np.ndarray:
    array = np.empty((), object)
    array[()] = content
    return array


def npz(content: dict[str, np.ndarray], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, array in content.items():
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(f"{name}.npy", member.getvalue())
    return file.getvalue()


def read(path: Path, data: bytes, classes: int = 9, size: tuple[int, int] | None = None) -> dict:
    path.write_bytes(data)
    return dict(read_cams(path, classes, size))


# -- Good files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("core", ["numpy._core", "numpy.core"])
def test_dicts_are_read_as_pickle_reads_them(tmp_path: Path, protocol: int, kind: str, core: str) -> None:
    # Large enough for bytes that are not read at once.
    content = {np.int64(3): maps(3, kind=kind)[3], 1: np.asfortranarray(maps(1, kind=kind)[1])}
    pickled = pickle.dumps(wrapped(content), protocol=protocol)
    name = f"{core}.multiarray".encode()
    if protocol < 4:
        pickled = pickled.replace(b"numpy._core.", f"{core}.".encode())
    elif core == "numpy.core":
        pytest.skip("names have lengths there")
    assert protocol > 3 or name in pickled
    found = read(tmp_path / "a.npy", npy(pickled), 4, SIZE)
    assert list(found) == [1, 3]
    for c, cam in found.items():
        assert cam.dtype == np.float32
        np.testing.assert_array_equal(cam, content[c].astype(np.float32))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f8"])
def test_npz_files_are_read(tmp_path: Path, save: Callable, kind: str) -> None:
    content = maps(0, 8, kind=kind)
    content[8] = np.asfortranarray(content[8])
    save(tmp_path / "a.npz", **{str(c): cam for c, cam in content.items()})
    found = read_cams(tmp_path / "a.npz", 9, SIZE)
    assert list(found) == [0, 8]
    for c, cam in content.items():
        np.testing.assert_array_equal(found[c], cam.astype(np.float32))


def test_an_image_without_tags_has_an_empty_dict(tmp_path: Path) -> None:
    assert read(tmp_path / "a.npy", npy(pickle.dumps(wrapped({})))) == {}
    assert read(tmp_path / "a.npz", npz({"0": maps(0)[0]})).keys() == {0}


def test_python_2_strings_are_read(tmp_path: Path) -> None:
    cam = maps(0)[0]
    pickled = (
        b"\x80\x02}K\x00cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x0dK\x11\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<I", cam.nbytes) + cam.tobytes() + b"tbs."
    )
    np.testing.assert_array_equal(read(tmp_path / "a.npy", npy(pickled))[0], cam)


def test_one_map_is_in_memory_at_a_time(tmp_path: Path) -> None:
    side, count = 256, 24
    content = maps(*range(count), size=(side, side))
    for name, data in (
        ("a.npz", npz({str(c): cam for c, cam in content.items()})),
        ("a.npy", npy(pickle.dumps(wrapped(content), protocol=4))),
    ):
        (tmp_path / name).write_bytes(data)
        del data
        tracemalloc.start()
        try:
            found = read_cams(tmp_path / name, count, (side, side))
            total = sum(float(found[c].sum()) for c in found)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert total == pytest.approx(sum(float(cam.sum()) for cam in content.values()))
        assert peak < 6 * side * side * 4


# -- Hostile pickles -----------------------------------------------------------------------------------------

RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
FROM_BUFFER = b"cnumpy.core.numeric\n_frombuffer\n"


def dtype(
    code: bytes, order: bytes = b"<", rest: bytes = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00"
) -> bytes:
    made = b"cnumpy\ndtype\nX" + struct.pack("<I", len(code)) + code + b"\x89\x88\x87R"
    return made + b"(K\x03X\x01\0\0\0" + order + rest + b"tb"


def integer(value: int) -> bytes:
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def array(kind: bytes, shape: tuple[int, ...], content: bytes) -> bytes:
    sides = b"(" + b"".join(map(integer, shape)) + b"t"
    held = b"B" + struct.pack("<I", len(content)) + content
    return RECONSTRUCT + b"(K\x01" + sides + kind + b"\x89" + held + b"tb"


def a_dict(value: bytes, key: bytes = b"K\x00") -> bytes:
    return b"\x80\x03}" + key + value + b"s."


F4 = dtype(b"f4")
HOSTILE = {
    "a void type": a_dict(array(dtype(b"V8", b"|"), (2, 2), bytes(32))),
    "a void type of no bytes": a_dict(array(dtype(b"V0", b"|"), (1 << 30, 1 << 30), b"")),
    "a type with fields": a_dict(
        array(dtype(b"V8", b"|", b"N\x8c\x01a\x85}J\x08\0\0\0K\x01K\x10"), (2,), bytes(16))
    ),
    "objects that are pointers": a_dict(array(dtype(b"O8", b"|"), (1, 2), bytes(16))),
    "a list of objects": a_dict(
        RECONSTRUCT + b"(K\x01K\x01K\x01\x86" + dtype(b"O8", b"|") + b"\x89]K\x01atb"
    ),
    "a long double": a_dict(array(dtype(b"f16"), (1, 1), bytes(16))),
    "text as a type": a_dict(array(dtype(b"U999"), (1, 1), bytes(3996))),
    "another byte order": a_dict(array(dtype(b"f4", b"I"), (1, 1), bytes(4))),
    "a shape of more than the file": a_dict(array(F4, (1 << 20, 1 << 20), bytes(16))),
    "a negative shape": a_dict(array(F4, (-1, -4), bytes(16))),
    "a product that overflows": a_dict(array(F4, (1 << 62, 4), bytes(16))),
    "an empty map": a_dict(array(F4, (0, 4), b"")),
    "many dimensions": a_dict(array(F4, (1,) * 40, bytes(4))),
    "less content than the shape": a_dict(array(F4, (2, 2), bytes(15))),
    "no content": a_dict(RECONSTRUCT),
    "content that is a number": a_dict(RECONSTRUCT + b"(K\x01K\x02K\x02\x86" + F4 + b"\x89K\x07tb"),
    "a buffer of another size": a_dict(
        FROM_BUFFER + b"(C\x04\0\0\0\0" + F4 + b"K\x09K\x09\x86X\x01\0\0\0CtR"
    ),
    "permuted axes": a_dict(
        FROM_BUFFER + b"(C\x04\0\0\0\0" + F4 + b"K\x01K\x01\x86X\x01\0\0\0KK\x01K\x00\x86tR"
    ),
    "a constructor of something else": a_dict(b"cnumpy\nfromfile\nX\x01\0\0\0a\x85R"),
    "strides": a_dict(b"cnumpy.lib.stride_tricks\nas_strided\n)R"),
    "an array that is called": a_dict(b"cnumpy\nndarray\n(K\x09K\x09\x86tR"),
    "eval": a_dict(b"cbuiltins\neval\nX\x01\0\0\x001\x85R"),
    "a name without end": b"\x80\x03c" + b"a" * 5000,
    "a class instance": b"\x80\x03}K\x00(ios\nmkdir\ns.",
    "a new object": a_dict(b"cnumpy\nndarray\n)\x81"),
    "a persistent id": a_dict(b"Q"),
    "an extension": a_dict(b"\x82\x01"),
    "a buffer from outside": a_dict(b"\x97"),
    "bytes without end": b"\x80\x03}K\x00\x8e" + b"\xff" * 7 + b"\x7f",
    "a huge frame": b"\x80\x04\x95" + b"\xff" * 8 + b"N.",
    "a huge number": b"\x80\x03}\x8b" + struct.pack("<i", 1 << 30),
    "a long number": b"\x80\x03}\x8a\xff" + b"\xff" * 255 + b"Ns.",
    "memo that is not there": a_dict(b"h\x09"),
    "a far memo": b"\x80\x03}r\xff\xff\xff\xffj\xfe\xff\xff\xff.",
    "nothing to pop": b"\x80\x03s.",
    "a mark as a value": b"\x80\x03}K\x00(s.",
    "no mark": b"\x80\x03}u.",
    "one key too many": b"\x80\x03}(K\x00u.",
    "building nothing": b"\x80\x03}}b.",
    "building twice": a_dict(b"N(K\x01tb"),
    "protocol 0": b"(dI0\nNs.",
    "protocol 9": b"\x80\x09}.",
    "without end": b"\x80\x03" + b"N" * 20_000,
    "lists in lists": b"\x80\x03]" + b"q\x00]h\x00ah\x00a" * 20 + b".",
    "lists nested deeply": b"\x80\x03" + b"]" * 9_000 + b"a" * 8_999 + b".",
    "a key of keys": b"\x80\x03})" + b"q\x00h\x00\x86" * 100 + b"Ns.",
    "a key that is a dict": b"\x80\x03}}Ns.",
    "a key of floats": a_dict(b"N", b"G" + bytes(8)),
    "a text as a map": a_dict(b"X\x01\0\0\0a"),
    "no dict": b"\x80\x03K\x01.",
    "a map of integers": a_dict(array(dtype(b"i4"), (1, 1), bytes(4))),
    "no UTF-8": a_dict(
        RECONSTRUCT + b"(K\x01K\x01K\x01\x86" + F4 + b"\x89c_codecs\nencode\nX\x04\0\0\0\xff\xff\xff\xff"
        b"X\x06\0\0\0latin1\x86Rtb"
    ),
    "shared bytes": b"\x80\x03B"
    + struct.pack("<I", 4000)
    + bytes(4000)
    + b"q\x00"
    + F4
    + b"q\x01}("
    + b"".join(b"K" + bytes([c]) + FROM_BUFFER + b"(h\x00h\x01K\x64K\x0a\x86X\x01\0\0\0CtR" for c in range(8))
    + b"u.",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_pickles_are_refused(tmp_path: Path, what: str) -> None:
    with pytest.raises(InputError, match=r"a\.npy"):
        read(tmp_path / "a.npy", npy(HOSTILE[what]))


def test_what_the_hostile_ones_are_made_of_is_read(tmp_path: Path) -> None:
    cam = maps(0)[0]
    good = a_dict(array(F4, cam.shape, cam.tobytes()))
    np.testing.assert_array_equal(read(tmp_path / "a.npy", npy(good))[0], cam)
    buffer = b"B" + struct.pack("<I", cam.nbytes) + cam.tobytes()
    sides = b"".join(map(integer, cam.shape))
    good = a_dict(FROM_BUFFER + b"(" + buffer + F4 + sides + b"\x86X\x01\0\0\0CtR")
    np.testing.assert_array_equal(read(tmp_path / "a.npy", npy(good))[0], cam)


def test_instructions_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x80\x03" + b"N" * 200)
    with (tmp_path / "a").open("rb") as file, pytest.raises(PickleError, match="more than 100 instructions"):
        read_pickle(file, 202, 100)


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': [('a', 'V8')], 'fortran_order': False, 'shape': ()}",
        b"{'descr': '|O', 'fortran_order': False, 'shape': ()" + b"(" * 3000,
        b"{'descr': '|O', 'fortran_order': False, 'shape': (9999999999999999999999,)}",
        b"-" * 60_000,
        b"__import__('os').mkdir('x')",
        b"\xff\xfe",
    ],
)
def test_headers_are_not_evaluated(tmp_path: Path, header: bytes) -> None:
    data = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + pickle.dumps({})
    with pytest.raises(InputError, match=r"a\.npy"):
        read(tmp_path / "a.npy", data)


# -- Hostile zips --------------------------------------------------------------------------------------------


def bomb() -> bytes:
    """128 MB of zeros in 128 kB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("0.npy", "w") as member:
        np.lib.format.write_array_header_1_0(
            member, {"descr": "<f2", "fortran_order": False, "shape": (1 << 13, 1 << 13)}
        )
        for _ in range(128):
            member.write(bytes(1 << 20))
    return file.getvalue()


def lying(size: int) -> bytes:
    """A member whose entry says that it has another size."""
    data = bytearray(npz({"0": maps(0)[0]}, zipfile.ZIP_STORED))
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", size)
    return bytes(data)


def changed(offset: int, value: bytes) -> bytes:
    data = bytearray(npz({"0": maps(0)[0]}))
    at = data.index(b"PK\1\2") + offset
    data[at : at + len(value)] = value
    return bytes(data)


CAM = maps(0)[0]
HOSTILE_ZIPS: dict[str, Callable[[], bytes]] = {
    "a bomb": bomb,
    "an unknown class": lambda: npz({"9": CAM}),
    "a name": lambda: npz({"cat": CAM}),
    "a path": lambda: npz({"../0": CAM}),
    "a leading zero": lambda: npz({"0": CAM, "00": CAM}),
    "objects": lambda: npz({"0": np.array([None], object)}),
    "integers": lambda: npz({"0": np.ones((2, 2), np.int64)}),
    "one dimension": lambda: npz({"0": np.ones(4)}),
    "no pixels": lambda: npz({"0": np.ones((0, 4))}),
    "not numbers": lambda: npz({"0": np.full((2, 2), np.nan)}),
    "too large for float32": lambda: npz({"0": np.full((2, 2), 1e300)}),
    "a compression that numpy does not use": lambda: npz({"0": CAM}, zipfile.ZIP_LZMA),
    "cut off": lambda: npz({"0": CAM})[:-30],
    "a comment": lambda: npz({"0": CAM})[:-2] + b"\5\0hello",
    "encrypted": lambda: changed(8, b"\1\0"),
    "a wrong checksum": lambda: changed(16, b"\0\0\0\0"),
    "entries of more": lambda: lying(1 << 30),
    "entries of less": lambda: lying(100),
    "a far offset": lambda: changed(42, b"\xff\xff\xff\x7f"),
    "many entries": lambda: npz({str(n) + "x" * 60000: CAM for n in range(20)}),
}


@pytest.mark.parametrize("what", HOSTILE_ZIPS)
def test_hostile_zips_are_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(HOSTILE_ZIPS[what]())
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"a\.npz"):
            dict(read_cams(path, 9))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8_000_000


def test_maps_of_another_size_are_refused_before_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(bomb())
    with pytest.raises(ShapeError, match=r"a\.npz: the map of class 0 is \(8192, 8192\), but the image is"):
        read_cams(tmp_path / "a.npz", 9, SIZE)


def test_more_maps_than_an_image_needs_are_refused(tmp_path: Path) -> None:
    cam = np.zeros((1 << 12, 1 << 11), np.float16)
    data = npz({str(c): cam for c in range(26)})
    with pytest.raises(InputError, match=r"26 maps of 218,103,808 values, which is too much"):
        read(tmp_path / "a.npz", data, 99, (1 << 12, 1 << 11))


# -- Neither -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["npz", "npy"])
def test_files_that_are_no_files_are_refused_at_once(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    os.mkfifo(path)
    with pytest.raises(InputError, match="pipe"):
        read_cams(path, 9)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="folder"):
        read_cams(path, 9)
    path.rmdir()
    path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="device"):
        read_cams(path, 9)


@pytest.mark.parametrize("seed", range(3))
def test_any_damage_is_one_error_or_a_map(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    good = [
        npy(pickle.dumps(wrapped(maps(0, 3, size=(2, 3))), protocol=2)),
        npy(pickle.dumps(wrapped(maps(0, 3, size=(2, 3))), protocol=5)),
        npz(dict(zip("03", maps(0, 3, size=(2, 3)).values(), strict=True)), zipfile.ZIP_STORED),
    ][seed]
    for _ in range(600):
        data = bytearray(good)
        for at in rng.integers(0, len(data), int(rng.integers(1, 5))):
            data[at] = rng.integers(0, 256)
        if rng.random() < 0.2:
            del data[int(rng.integers(0, len(data))) :]
        refused = ""
        try:
            for cam in read(tmp_path / "a", bytes(data)).values():
                assert cam.ndim == 2
                assert np.isfinite(cam).all()
        except InputError as error:
            refused = str(error)
        assert not refused or str(tmp_path / "a") in refused


def test_a_file_that_changes_meanwhile_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(npz({"0": CAM}))
    cams = read_cams(path, 9)
    path.write_bytes(b"gone")
    with pytest.raises(InputError, match=r"a\.npz cannot be read"):
        cams[0]
