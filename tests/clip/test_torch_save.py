"""Files of torch.save with unusual or crafted content; pickles are written opcode by opcode."""

import argparse
import json
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from copy import copy
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

from tagmask.clip.archives import read_weights
from tagmask.errors import WeightsError

VALUES = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1, 2])}
START = b"\x80\x02"
NUMBERS = pickle.dumps(dict.fromkeys(range(50_000)), 2)[2:-1]


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as error:
        read_weights(path)
    assert path.name in str(error.value)
    assert len(str(error.value).replace(str(path), "")) < 400
    return str(error.value)


def pickled(path: Path, opcodes: bytes) -> Path:
    """A zip of torch.save with a crafted pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", START + opcodes, zipfile.ZIP_DEFLATED)
        file.writestr("archive/data/0", bytes(48))
    return path


def saved(path: Path, value: object, new: bool) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sparse, nested and quantized tensors
        torch.save(value, path, _use_new_zipfile_serialization=new)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "crafted.pt"


BESIDE = {
    "numpy": {"best": np.float32(0.5), "count": np.int64(3), "done": np.bool_(True), "row": np.arange(4)},
    "settings": {"args": argparse.Namespace(lr=0.1, path=Path("x")), "when": date(2024, 1, 2), "seen": {1}},
    "optimiser": {
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0), "mean": torch.ones(3)}}}],
        "lr_schedulers": [{"_last_lr": [0.1], "betas": (0.9, 0.99)}],
        "loops": OrderedDict(fit=defaultdict(list, a=[1])),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
    },
    "sparse": {"gradient": torch.eye(3).to_sparse()},
}


@pytest.mark.parametrize("new", [True, False], ids=["zip", "older"])
@pytest.mark.parametrize("beside", BESIDE)
def test_what_is_kept_beside_the_tensors_does_not_matter(path: Path, beside: str, new: bool) -> None:
    found = read_weights(saved(path, {**BESIDE[beside], "state_dict": VALUES}, new)).tensors
    assert found.keys() == VALUES.keys()
    assert all(torch.equal(found[name], VALUES[name]) for name in VALUES)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "older"])
def test_every_dtype_is_read(path: Path, new: bool) -> None:
    names = ("float16", "bfloat16", "float8_e4m3fn", "float64", "complex64", "bool", "int8", "uint16")
    tensors = {name: torch.tensor([0, 1, 1]).to(getattr(torch, name)) for name in names}
    found = read_weights(saved(path, tensors, new)).tensors
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8))


KINDS = {
    "meta": lambda tensor: tensor.to("meta"),
    "sparse": lambda tensor: tensor.to_sparse(),
    "quantized": lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    "nested": lambda tensor: torch.nested.nested_tensor([tensor, tensor[:1]]),
    "negated": lambda tensor: torch._neg_view(tensor),
}


@pytest.mark.parametrize("new", [True, False], ids=["zip", "older"])
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_that_are_not_plain_are_named(path: Path, kind: str, new: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        odd = KINDS[kind](VALUES["a.weight"])
    for tensors in (VALUES | {"odd": odd}, {"odd": odd}):
        message = refused(saved(path, tensors, new))
        assert "the tensor odd is" in message
        assert kind in message


def test_tensors_larger_than_their_file_are_refused(path: Path) -> None:
    one = torch.zeros(1)
    assert "its tensors claim 4000" in refused(saved(path, VALUES | {"big": one.expand(10**9)}, True))
    # many tensors with the values of one
    shared = torch.zeros(300_000)
    message = refused(saved(path, {f"t{i}": shared for i in range(9)}, False))
    assert "t0 1200000 of them" in message
    # a few that repeat values are not
    assert len(read_weights(saved(path, {"a": one.expand(9), "b": one}, True)).tensors) == 2


@pytest.mark.parametrize(
    "opcodes",
    [
        b"\x8b" + struct.pack("<I", 2_000_000) + b"\x7f" * 2_000_000 + b".",  # integers whose sums hang
        b"L0x" + b"f" * 2_000_000 + b"L\n.",
        b"L" + b"9" * 5_000 + b"L\n.",
        b"X\xff\xff\xff\xff.",  # a text of 4 GB
        b")q\0" + b"h\0h\0\x86q\0" * 60 + b"}q\1h\0K\1s.",  # a key that is hashed 2 ** 60 times
        b"]("
        + b"K\1K\1\x86" * 50_000
        + b"eq\1ccollections\nOrderedDict\nq\2"
        + b"h\2h\1\x85R0" * 50_000
        + b".",
        b"(" + b"K\1" * 50_000 + b"tq\1ccollections\nOrderedDict\nq\2" + b"h\2h\1R0" * 50_000 + b".",
        NUMBERS + b"q\1ccollections\nOrderedDict\n)Rq\2" + b"h\2h\1b0" * 50_000 + b".",
    ],
    ids=["bytes", "hex", "decimal", "text", "hash", "pairs", "call", "state"],
)
def test_pickles_that_cost_too_much_are_refused(path: Path, opcodes: bytes) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF)
    assert "damaged" in refused(pickled(path, opcodes))
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 10  # without the limits: minutes to centuries
    assert after.ru_maxrss - before.ru_maxrss < 400 << 10  # in KiB


def test_a_pickle_has_a_limit_before_it_is_decompressed(path: Path) -> None:
    assert "record data.pkl claims 60000003 bytes" in refused(pickled(path, b"}" * 60_000_000 + b"."))


def test_a_record_that_is_too_small_is_refused(path: Path) -> None:
    saved(path, {"a": torch.ones(100)}, True)
    with zipfile.ZipFile(path) as old:
        contents = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in contents.items():
            new.writestr(name, content[:40] if name.endswith("/data/0") else content)
    assert "a record of 40 bytes should hold 100 values" in refused(path)


def test_records_must_not_overlap(path: Path) -> None:
    # several entries for the same bytes, of which each could be copied
    saved(path, {name: torch.ones(1000) for name in "abcd"}, True)
    with zipfile.ZipFile(path) as old:
        contents = {name: old.read(name) for name in old.namelist() if name.endswith(("data.pkl", "data/0"))}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in contents.items():
            new.writestr(name, content)
        for key in "123":
            alias = copy(new.filelist[-1])
            alias.filename = f"{alias.filename[:-1]}{key}"
            new.filelist.append(alias)
    assert "its records overlap" in refused(path)


def test_attributes_of_a_dict_in_a_pickle_are_ignored(path: Path) -> None:
    items = pickle.dumps({"get": 1, "items": 2, "_metadata": 3}, 2)[2:-1]
    assert "a dict with nothing" in refused(pickled(path, b"ccollections\nOrderedDict\n)R" + items + b"b."))


@pytest.mark.parametrize("keys", [[], ["0", "0"], [1], ["9"], "0"])
def test_the_list_of_storages_of_the_older_format_is_checked(path: Path, keys: object) -> None:
    saved(path, {"a": torch.ones(2)}, False)
    content = path.read_bytes()
    end = len(content) - 16
    start = content.rindex(START + b"]", 0, end)  # a list with one key
    path.write_bytes(content[:start] + pickle.dumps(keys, 2) + content[end:])
    assert "damaged" in refused(path)


def test_a_storage_of_the_older_format_has_the_size_that_its_tensor_needs(path: Path) -> None:
    saved(path, {"a": torch.ones(2)}, False)
    content = path.read_bytes()
    path.write_bytes(content[:-16] + struct.pack("<q", 3) + content[-8:])
    assert "a storage ends after the file does" in refused(path)
    path.write_bytes(content[:-4])
    assert "a storage ends after the file does" in refused(path)


def test_the_table_of_contents_of_a_zip_has_a_limit(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", START + b"}.")
        for _ in range(150):
            file.filelist.append(copy(file.filelist[0]))
            file.filelist[-1].comment = b"x" * 60_000
    assert "its table of contents has 90" in refused(path)


@pytest.mark.parametrize("name", ["x" * 5_000_000, "y"])
def test_a_header_of_safetensors_has_a_limit(path: Path, name: str) -> None:
    entry = f'"{name}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    header = f"{{{entry},{entry.replace(name, 'z' * len(name), 1)}}}".encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    if len(name) > 1:
        assert "its header claims 1000" in refused(path)
    else:
        assert len(read_weights(path).tensors) == 2


@pytest.mark.parametrize(
    ("shape", "offsets"), [([10], [0, 40]), ([2**40], [0, 2**42]), ([2**40, 2**40], [0, 0]), ([1], [4, 8])]
)
def test_a_header_of_safetensors_that_lies_is_refused(
    path: Path, shape: list[int], offsets: list[int]
) -> None:
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    header = json.dumps({"a": tensor, "b": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(40))
    assert "is damaged or incomplete" in refused(path)
