import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tagmask.errors import InputError
from tagmask.pipelines.adaptation import Adaptation, read_adaptation, write_adaptation


def test_adaptation_round_trip(tmp_path: Path) -> None:
    arrays = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3).T, "bias": np.ones(3)}
    learned = Adaptation("piaa", ("cat", "dög", ""), "f00d", arrays)
    write_adaptation(learned, tmp_path / "new" / "a.safetensors")
    found = read_adaptation(tmp_path / "new" / "a.safetensors")
    assert (found.method, found.texts, found.weights) == ("piaa", ("cat", "dög", ""), "f00d")
    assert set(found.arrays) == {"weight", "bias"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_adaptation(tmp_path / "no.safetensors")
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(InputError, match="cannot be read"):
        read_adaptation(tmp_path / "text")
    save_file({"weight": np.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="is not a tagmask adapter"):
        read_adaptation(tmp_path / "other.safetensors")


def written(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    arrays = {"weight": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(3, np.float32)}
    write_adaptation(Adaptation("piaa", ("cat", "dog"), "f00d", arrays), path)
    with safe_open(path, "numpy") as opened:
        return arrays, opened.metadata()


@pytest.mark.parametrize(
    ("arrays", "metadata"),
    [
        ({"weight": np.full((2, 3), np.nan, np.float32)}, {}),
        ({"weight": -np.arange(6, dtype=np.float32).reshape(2, 3)}, {}),
        ({"weight": np.arange(6, dtype=np.float32).reshape(3, 2)}, {}),
        ({"more": np.ones(1, np.float32)}, {}),
        ({}, {"texts": '["dog", "cat"]'}),
        ({}, {"texts": "[" * 100_000}),
        ({}, {"texts": "[[NaN]]"}),
        ({}, {"method": "sparc"}),
        ({}, {"weights": "other"}),
        ({}, {"fingerprint": "0" * 64}),
    ],
)
def test_a_changed_file_is_refused(
    arrays: dict[str, np.ndarray], metadata: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    old_arrays, old_metadata = written(path)
    save_file(old_arrays, path, old_metadata)
    assert read_adaptation(path).method == "piaa"
    save_file({**old_arrays, **arrays}, path, {**old_metadata, **metadata})
    with pytest.raises(
        InputError, match=r"a\.safetensors is damaged, or from an earlier tagmask. Adapt again"
    ):
        read_adaptation(path)


@pytest.mark.parametrize("key", ["method", "texts", "weights", "fingerprint"])
def test_a_file_without_a_key_is_refused(key: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    arrays, metadata = written(path)
    del metadata[key]
    save_file(arrays, path, metadata)
    with pytest.raises(InputError, match=r"is damaged, or from an earlier tagmask"):
        read_adaptation(path)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"a\.safetensors cannot be read: it is a pipe"):
        read_adaptation(tmp_path / "a.safetensors")
