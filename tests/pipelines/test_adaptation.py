from pathlib import Path

import numpy as np
import pytest
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
