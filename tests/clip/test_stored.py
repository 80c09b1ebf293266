"""Tensors that are read from a file one at a time."""

import gc
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tagmask.clip.archives import open_weights
from tagmask.clip.stored import DataFile, StoredTensor, stacked, transposed
from tagmask.errors import WeightsError
from tests.oracles import clip_tree, hugging_face

NUMBERS = np.arange(60, dtype=np.int32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Three other bytes, then the numbers, so that nothing is aligned."""
    (tmp_path / "data").write_bytes(b"abc" + NUMBERS.tobytes())
    return tmp_path / "data"


@pytest.mark.parametrize("dtype", ["int32", "float32", "bfloat16", "uint8"])
@pytest.mark.parametrize(
    ("size", "stride"),
    [
        ((3, 4), (4, 1)),
        ((4, 3), (1, 4)),  # transposed
        ((2, 3), (10, 2)),  # gaps
        ((3, 5), (0, 1)),  # repeats
        ((2, 2), (3, 0)),  # both, as many values as they span
        ((2, 2, 2), (1, 1, 5)),
        ((4,), (0,)),
        ((), ()),
        ((0, 3), (3, 1)),
        ((1, 1), (0, 0)),
    ],
)
def test_every_layout(path: Path, dtype: str, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
    kind = getattr(torch, dtype)
    bits = torch.frombuffer(bytearray(path.read_bytes()[3 + 8 :]), dtype=kind)
    stored = DataFile(path).tensor(3 + 8, kind, size, stride)
    read = stored.read()
    expected = bits.as_strided(size, stride)
    assert (read.shape, read.dtype) == (size, kind) == (stored.shape, stored.dtype)
    assert torch.equal(read, expected)
    assert read.untyped_storage().nbytes() == read.nbytes == stored.nbytes
    read.zero_()  # refused if several elements were one place
    assert torch.equal(stored.read(), expected)


def test_the_file_that_was_opened_is_read(path: Path, tmp_path: Path) -> None:
    stored = DataFile(path).tensor(3, torch.int32, (60,), (1,))
    (tmp_path / "new").write_bytes(bytes(path.stat().st_size))
    (tmp_path / "new").replace(path)
    assert np.array_equal(stored.read().numpy(), NUMBERS)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_file_that_is_cut_off_later_is_an_error(path: Path, stride: int) -> None:
    stored = DataFile(path).tensor(3, torch.int32, (30,), (stride,))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(WeightsError, match="data cannot be read, or has changed meanwhile"):
        stored.read()


def test_files_are_closed_without_a_warning(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DataFile(path).tensor(3, torch.int32, (3,), (1,)).read()
        gc.collect()


def test_transposed_and_stacked_tensors_are_read_late(path: Path) -> None:
    file = DataFile(path)
    matrix = file.tensor(3, torch.int32, (2, 3), (3, 1))
    numbers = NUMBERS[:6].reshape(2, 3)
    turned = transposed(matrix)
    assert turned.shape == (3, 2)
    assert np.array_equal(turned.read().numpy(), numbers.T)
    assert turned.read().is_contiguous()
    half = StoredTensor((2, 3), torch.float16, lambda: torch.ones(2, 3, dtype=torch.float16))
    for parts in ([matrix, matrix], [matrix, half]):
        both = stacked(parts)
        read = torch.cat([part.read() for part in parts])
        assert (both.shape, both.dtype) == (read.shape, read.dtype)
        assert torch.equal(both.read(), read)


FORMS = ["safetensors", "torch.save", "torch.save, older", "TorchScript", "Hugging Face"]
PRECISIONS = ["float32", "bfloat16"]

# In a process of its own, and one allocation at a time: what other tests leave behind changes the peak.
MEASURE = """
import gc, sys
from benchmarks.process_memory import memory_bytes, reset_peak, return_free_memory
from tagmask.clip.load import load
from tagmask.clip.sources import BUNDLED
load(BUNDLED, device="cpu")  # imports, buffers
for path in sys.argv[1:]:
    for precision in ("float32", "bfloat16"):
        gc.collect()
        return_free_memory()
        reset_peak()
        before = memory_bytes("VmRSS")
        load(path, device="cpu", activation="gelu", precision=precision)
        print(memory_bytes("VmHWM") - before)
"""


@pytest.fixture(scope="module")
def loading(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[int, int]]:
    """By form and precision: the bytes that loading took at the peak, and the bytes allowed."""
    sizes = {**clip_tree.SMALL, "text_width": 512, "text_layers": 12, "vocab": 49408, "context": 77}
    tree = clip_tree.ClipTree(**sizes).requires_grad_(False)
    weights = {
        name: tensor for name, tensor in tree.state_dict().items() if tensor.ndim or name == "logit_scale"
    }
    paths = [tmp_path_factory.mktemp("weights") / "model.safetensors" for form in FORMS]
    save_file(weights, paths[0])
    torch.save(weights, paths[1])
    torch.save(weights, paths[2], _use_new_zipfile_serialization=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(tree).save(str(paths[3]))
    save_file(hugging_face.tensors(weights, layers=sizes["layers"], text_layers=12), paths[4])

    command = [sys.executable, "-c", MEASURE, *map(str, paths)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}  # what is freed is given back at once
    done = subprocess.run(
        command, env=environment, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True
    )
    taken = [int(line) for line in done.stdout.split()]
    block = sum(t.nbytes for name, t in weights.items() if name.startswith("transformer.resblocks.0."))
    products = sum(t.nbytes for name, t in weights.items() if "resblocks" in name and t.ndim == 2)
    loaded = {"float32": sum(t.nbytes for t in weights.values())}
    loaded["bfloat16"] = loaded["float32"] - products // 2
    cases = [(form, precision) for form in FORMS for precision in PRECISIONS]
    return {
        case: (bytes_taken, loaded[case[1]] + 5 * block // 2)
        for case, bytes_taken in zip(cases, taken, strict=True)
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the memory from /proc")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("form", FORMS)
def test_loading_needs_the_memory_of_the_weights_and_two_blocks(
    loading: dict[tuple[str, str], tuple[int, int]], form: str, precision: str
) -> None:
    taken, allowed = loading[form, precision]
    assert taken < allowed


def test_opening_reads_no_values(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "a")
    archive = open_weights(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:-12] + np.full(3, 2, np.float32).tobytes())
    assert archive.tensors["a"].read().tolist() == [2, 2, 2]
