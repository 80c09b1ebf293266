"""MATLAB files: written by SciPy (tests/golden/labels_*.mat), and damaged ones."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from tagmask.data.mat_file import read_array
from tagmask.errors import ImageError
from tests.data import layouts

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("kind", ["packed", "plain"])
def test_arrays_round_trip(kind: str) -> None:
    path = GOLDEN / f"labels_{kind}.mat"
    labels = np.arange(12).reshape(3, 4) * 40
    np.testing.assert_array_equal(read_array(path, "LabelMap"), labels)
    np.testing.assert_array_equal(read_array(path, "double"), labels)
    assert read_array(path, "tiny").tolist() == [[3]]


@pytest.mark.parametrize("kind", ["packed", "plain"])
def test_other_arrays_are_refused(kind: str) -> None:
    path = GOLDEN / f"labels_{kind}.mat"
    with pytest.raises(
        ImageError, match=r"has no array 'S'\. Its arrays are captions, LabelMap, double, tiny"
    ):
        read_array(path, "S")
    with pytest.raises(ImageError, match="is damaged, or its 'captions' is not a numeric array"):
        read_array(path, "captions")


@pytest.mark.parametrize("length", [0, 100, 150, 300, 410])
def test_truncated_files_are_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.mat"
    path.write_bytes((GOLDEN / "labels_packed.mat").read_bytes()[:length])
    with pytest.raises(ImageError, match=r"cut\.mat (is not a MATLAB file|is damaged|has no array)"):
        read_array(path, "tiny")


def test_other_versions_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(500))
    with pytest.raises(ImageError, match=r"it has version 7\.3; save it with -v7"):
        read_array(path, "S")
    with pytest.raises(ImageError, match="No such file"):
        read_array(tmp_path / "absent.mat", "S")


def test_written_test_files_round_trip(tmp_path: Path) -> None:
    labels = np.arange(48).reshape(6, 8)
    layouts.matlab(tmp_path / "a.mat", other=labels[:2], LabelMap=labels)
    np.testing.assert_array_equal(read_array(tmp_path / "a.mat", "LabelMap"), labels)


def element(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)


def crafted(path: Path, body: bytes, *, claims: int | None = None) -> Path:
    """A MATLAB file with one compressed array."""
    packed = zlib.compress(struct.pack("<II", 14, len(body) if claims is None else claims) + body)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
    path.write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)
    return path


def array(shape: tuple[int, ...], kind: int, values: bytes, name: bytes = b"S") -> bytes:
    dims = struct.pack(f"<{len(shape)}i", *shape)
    return element(6, bytes(8)) + element(5, dims) + element(1, name) + element(kind, values)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (array((100_000, 100_000), 2, bytes(400 << 20)), "it claims the shape"),
        (array((1, 1), 2, bytes(400 << 20)), "it claims 419"),
        (array((-1, 4), 2, bytes(8)), "it claims the shape"),
        (array((0, 4), 2, b""), "it claims the shape"),
        (array((2, 2, 2), 2, bytes(8)), "it claims the shape"),
        (array((2, 2), 2, bytes(3)), "cannot reshape"),
        (array((1, 2), 9, np.array([1.0, np.nan]).tobytes()), "no finite numbers"),
        (array((1, 2), 9, np.array([1.0, np.inf]).tobytes()), "no finite numbers"),
    ],
    ids=["shape", "size", "negative", "empty", "cube", "short", "nan", "infinite"],
)
def test_arrays_that_claim_too_much_are_refused(tmp_path: Path, body: bytes, reason: str) -> None:
    path = crafted(tmp_path / "bomb.mat", body)
    del body
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=rf"bomb\.mat is damaged, or its 'S' .*{reason}"):
        read_array(path, "S")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # in KiB


def test_other_arrays_are_not_decompressed(tmp_path: Path) -> None:
    path = crafted(tmp_path / "bomb.mat", array((20_000, 20_000), 2, bytes(400 << 20), b"other"))
    with pytest.raises(ImageError, match=r"bomb\.mat has no array 'S'\. Its arrays are other"):
        read_array(path, "S")


def test_cut_or_lying_arrays_are_refused(tmp_path: Path) -> None:
    body = array((2, 2), 2, bytes(4))
    for claims in (8, 40, 1 << 20):
        with pytest.raises(ImageError, match=r"a\.mat is damaged"):
            read_array(crafted(tmp_path / "a.mat", body, claims=claims), "S")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mat")
    with pytest.raises(ImageError, match="is not a regular file"):
        read_array(tmp_path / "pipe.mat", "S")


def test_a_file_has_a_limit(tmp_path: Path) -> None:
    with (tmp_path / "large.mat").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageError, match="too many for an array of labels"):
        read_array(tmp_path / "large.mat", "S")
