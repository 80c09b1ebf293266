"""MATLAB files: written by SciPy (tests/golden/labels_*.mat), and damaged ones."""

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
