"""Tensors that are read from a file one at a time."""

import ctypes
import gc
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.process_memory import memory_bytes, reset_peak
from safetensors.torch import save_file

from tagmask.clip.archives import open_weights
from tagmask.clip.load import load
from tagmask.clip.sources import BUNDLED
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


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the memory from /proc")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "form", ["safetensors", "torch.save", "torch.save, older", "TorchScript", "Hugging Face"]
)
def test_loading_needs_the_memory_of_the_weights_and_two_blocks(
    tmp_path: Path, form: str, precision: str
) -> None:
    sizes = {**clip_tree.SMALL, "text_width": 512, "text_layers": 12, "vocab": 49408, "context": 77}
    tree = clip_tree.ClipTree(**sizes).requires_grad_(False)
    weights = {
        name: tensor for name, tensor in tree.state_dict().items() if tensor.ndim or name == "logit_scale"
    }
    path = tmp_path / "weights"
    if form == "safetensors":
        save_file(weights, path)
    elif form == "Hugging Face":
        path = tmp_path / "weights.safetensors"
        save_file(hugging_face.tensors(weights, layers=sizes["layers"], text_layers=12), path)
    elif form == "TorchScript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(tree).save(str(path))
    else:
        torch.save(weights, path, _use_new_zipfile_serialization=form == "torch.save")
    block = sum(t.nbytes for name, t in weights.items() if name.startswith("transformer.resblocks.0."))
    products = sum(t.nbytes for name, t in weights.items() if "resblocks" in name and t.ndim == 2)
    loaded = sum(t.nbytes for t in weights.values()) - (products // 2 if precision == "bfloat16" else 0)
    del tree, weights
    load(BUNDLED, device="cpu")  # imports, buffers
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else what this test used before is used again
    reset_peak()
    before = memory_bytes("VmRSS")
    load(path, device="cpu", activation="gelu", precision=precision)
    assert memory_bytes("VmHWM") - before < loaded + 5 * block // 2


def test_opening_reads_no_values(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "a")
    archive = open_weights(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(content[:-12] + np.full(3, 2, np.float32).tobytes())
    assert archive.tensors["a"].read().tolist() == [2, 2, 2]
