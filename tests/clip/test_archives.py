import copy
import gzip
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from tagmask.clip.archives import read_weights
from tagmask.clip.state_dict import clip_tensors
from tagmask.errors import WeightsError
from tests.oracles import clip_tree

KINDS = ("script", "trace", "zip", "legacy", "safetensors")


class Inner(nn.Module):
    """All kinds of attributes that an archive can hold; only parameters and buffers are state."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.register_buffer("counts", torch.arange(5))
        self.register_buffer("fleeting", torch.ones(2), persistent=False)
        self.plain = torch.ones(3)
        self.whole: list[int] = [1, 2]
        self.real = [1.0, 2.0]
        self.flags = [True]
        self.several = [torch.ones(1)]
        self.named = {"a": torch.ones(2)}
        self.pair = (1, torch.zeros(1))
        self.device = torch.device("cpu")
        self.imaginary = [1j]
        self.ignore_index = None

    def forward(self, x):
        return self.linear(x) + self.plain.sum() + self.counts.sum() + self.several[0]


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()
        self.row = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4).half()])
        self.shared = self.inner.linear
        self.strided = nn.Parameter(torch.randn(2, 3).t())
        table = torch.randn(6, 4)
        self.register_buffer("part", table[2:5, 1:3])
        self.register_buffer("other_part", table[1])
        self.register_buffer("broad", torch.ones(1).expand(4))
        self.register_buffer("scalar", torch.tensor(3))
        self.register_buffer("empty", torch.ones(0, 2))
        self.register_buffer("absent", None)
        for dtype in ("bfloat16", "float16", "float64", "int8", "int16", "int32", "uint8", "bool"):
            self.register_buffer(f"as_{dtype}", torch.tensor([0, 1, 1], dtype=getattr(torch, dtype)))

    def forward(self, x):
        return self.row[0](self.inner(x)) + self.scalar


def quiet(call, *arguments):
    """Call a torch.jit function without its deprecation warning; OpenAI published such archives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return call(*arguments)


def save_script(module, path):
    quiet(lambda: torch.jit.script(module).save(str(path)))


def save_trace(module, path, *inputs):
    quiet(lambda: torch.jit.trace(module, inputs).save(str(path)))


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype, name
        assert got[name].shape == tensor.shape, name
        assert torch.equal(got[name], tensor), name
        assert not got[name].requires_grad, name


@pytest.fixture(scope="module")
def tree():
    torch.manual_seed(0)
    return clip_tree.ClipTree(**clip_tree.SMALL)


@pytest.fixture(scope="module")
def files(tree, tmp_path_factory):
    """One file of each kind, all with the same tensors."""
    folder = tmp_path_factory.mktemp("weights")
    state = dict(tree.state_dict())
    save_script(tree, folder / "script")
    save_trace(tree, folder / "trace", torch.zeros(1, 3, 64, 64))
    torch.save(state, folder / "zip")
    torch.save(state, folder / "legacy", _use_new_zipfile_serialization=False)
    save_file(state, folder / "safetensors", metadata={"activation": "quickgelu"})
    return folder


@pytest.fixture(scope="module")
def state(tree):
    return tree.state_dict()


# Supported files


@pytest.mark.parametrize("how", ["script", "trace"])
def test_an_archive_equals_what_torch_jit_loads(tmp_path, how):
    path = tmp_path / "weights.pt"
    torch.manual_seed(1)
    if how == "script":
        save_script(Outer(), path)
    else:
        save_trace(Outer(), path, torch.zeros(1, 3))
    archive = read_weights(path)
    assert archive.kind == "openai-archive"
    assert archive.metadata == {}
    assert_same(archive.tensors, quiet(torch.jit.load, str(path)).state_dict())


def test_a_half_precision_clip_archive_equals_what_torch_jit_loads(tree, tmp_path):
    save_script(copy.deepcopy(tree).half(), tmp_path / "clip.pt")
    got = read_weights(tmp_path / "clip.pt").tensors
    assert_same(got, quiet(torch.jit.load, str(tmp_path / "clip.pt")).state_dict())
    assert got["visual.proj"].dtype == torch.float16
    assert len(clip_tensors(got)) == len(got) - 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".safetensors", ""])
def test_the_content_decides_the_format_not_the_name(files, state, tmp_path, kind, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes((files / kind).read_bytes())
    archive = read_weights(path)
    kinds = {"script": "openai-archive", "trace": "openai-archive", "safetensors": "safetensors"}
    assert archive.kind == kinds.get(kind, "state-dict")
    assert archive.metadata == ({"activation": "quickgelu"} if kind == "safetensors" else {})
    assert_same(archive.tensors, state)


@pytest.mark.parametrize("nest", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("new", [True, False])
def test_nested_tensors_and_the_module_prefix(tmp_path, nest, new):
    expected = {"a.weight": torch.randn(2, 3), "b": torch.tensor(1, dtype=torch.int32)}
    inner = OrderedDict(
        (f"module.{name}", nn.Parameter(t, requires_grad=t.is_floating_point()))
        for name, t in expected.items()
    )
    saved = inner if nest is None else {"epoch": 3, "loss": torch.tensor(1.0), nest: inner}
    torch.save(saved, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    archive = read_weights(tmp_path / "x.pth")
    assert archive.kind == "state-dict"
    assert_same(archive.tensors, expected)


def test_the_module_prefix_is_removed_only_if_all_names_have_it(tmp_path):
    tensors = {"module.a": torch.ones(1), "b": torch.ones(1)}
    save_file(tensors, tmp_path / "x")
    assert read_weights(tmp_path / "x").tensors.keys() == tensors.keys()
    del tensors["b"]
    save_file(tensors, tmp_path / "x")
    assert read_weights(tmp_path / "x").tensors.keys() == {"a"}


@pytest.mark.parametrize("kind", ["script", "zip"])
def test_writing_to_a_tensor_does_not_change_the_file(files, tmp_path, kind):
    path = tmp_path / "x"
    path.write_bytes((files / kind).read_bytes())
    for tensor in read_weights(path).tensors.values():
        tensor.zero_()
    assert path.read_bytes() == (files / kind).read_bytes()


def test_a_tensor_of_an_archive_keeps_only_its_record(files):
    for tensor in read_weights(files / "script").tensors.values():
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_a_repacked_archive_without_alignment_is_read(files, state, tmp_path):
    repacked = tmp_path / "repacked.pt"
    with zipfile.ZipFile(files / "script") as old, zipfile.ZipFile(repacked, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    tensors = read_weights(repacked).tensors
    assert_same(tensors, state)
    assert all(tensor.data_ptr() % tensor.itemsize == 0 for tensor in tensors.values())


# Refused files


def refused(path):
    with pytest.raises(WeightsError) as error:
        read_weights(path)
    message = str(error.value)
    assert str(path) in message
    assert len(message.replace(str(path), "")) < 330
    return message


class Trap:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


MKDIR = f"{os.mkdir.__module__}.mkdir"


def test_the_trap_works_when_code_runs(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").is_dir()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("save", ["bare", "zip", "legacy"])
def test_code_in_a_pickle_is_refused_by_name_and_never_run(tmp_path, save, protocol):
    saved = {"a": torch.ones(2), "b": Trap(tmp_path / "sprung"), "c": [Trap(tmp_path / "again")]}
    path = tmp_path / "x.pt"
    if save == "bare":
        path.write_bytes(pickle.dumps(saved, protocol))
    else:
        torch.save(saved, path, pickle_protocol=protocol, _use_new_zipfile_serialization=save == "zip")
    message = refused(path)
    assert not (tmp_path / "sprung").exists()
    if protocol >= 2 or save == "zip":
        assert f" {MKDIR};" in message
        assert "could execute code" in message
        assert "safetensors.torch.save_file" in message


def test_other_pickle_protocols_are_read_or_refused_without_a_warning(tmp_path):
    saved = {"a": torch.ones(2)}
    torch.save(saved, tmp_path / "3.pt", pickle_protocol=3)
    assert_same(read_weights(tmp_path / "3.pt").tensors, saved)
    torch.save(saved, tmp_path / "4.pt", pickle_protocol=4)
    assert "uses another pickle protocol than torch.save" in refused(tmp_path / "4.pt")


def test_a_pickled_module_is_refused_by_name(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "x.pt")
    assert "needs torch.nn.modules.linear.Linear" in refused(tmp_path / "x.pt")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_truncated_anywhere_is_refused(files, tmp_path, kind, share):
    content = (files / kind).read_bytes()
    path = tmp_path / "truncated"
    path.write_bytes(content[: max(16, int(share * len(content)))])
    assert "damaged or incomplete" in refused(path)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_anywhere_gives_weights_or_a_weights_error(files, tmp_path, kind, data):
    damaged = bytearray((files / kind).read_bytes())
    headers = st.integers(0, 3000) | st.integers(len(damaged) - 8000, len(damaged) - 1)
    for at in data.draw(st.lists(headers, min_size=1, max_size=6)):
        damaged[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged"
    path.write_bytes(damaged)
    try:
        tensors = read_weights(path).tensors
    except WeightsError:
        return
    for tensor in tensors.values():
        tensor.double().sum()


def test_a_damaged_file_names_its_cause(tmp_path, files):
    (tmp_path / "x").write_bytes((files / "safetensors").read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"SafetensorError: .*Download or copy the file again") as error:
        read_weights(tmp_path / "x")
    assert type(error.value.__cause__).__name__ == "SafetensorError"


def archive_of(**members):
    def write(path):
        with zipfile.ZipFile(path, "w") as file:
            for name, content in members.items():
                file.writestr(name.replace("_", "."), content)

    return write


def text(content):
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def saved(value):
    return lambda path: torch.save(value, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (text(""), "is empty. Download or copy the file again"),
        (text("{}"), "a text file that begins with '{}'"),
        (text("x" + "é" * 4000), "a text file that begins with 'xééé"),  # read up to half an é
        (text("BMX, by name"), "a text file that begins with 'BMX"),
        (text("\ufeff  <!DOCTYPE html><p>Not found"), "a web page (HTML or XML), perhaps a saved error page"),
        (text("<Error><Code>AccessDenied</Code></Error>"), "a web page (HTML or XML)"),
        (text("version https://git-lfs.github.com/spec/v1\noid sha256:0"), "run `git lfs pull`"),
        (
            text(np.random.default_rng(0).bytes(5000)),
            "a file of an unknown format (it begins with the bytes",
        ),
        (text(b"\0"), "begins with the bytes 00)"),
        (text(gzip.compress(b"x" * 99)), "a gzip archive: unpack it first"),
        (text(b"\0" * 257 + b"ustar"), "a tar archive: unpack it first"),
        (text(b"\x89PNG\r\n\x1a\n\0"), "It is a PNG image"),
        (text(b"\x93NUMPY\x01\0"), "a NumPy array"),
        (archive_of(), "an empty zip"),
        (
            archive_of(a_txt="x", b_json="{}"),
            "is a zip without weights. It holds a.txt, b.json. Give the weights",
        ),
        (archive_of(a_txt="x", clip_pt="x"), "Unpack it and give clip.pt"),
        (saved({}), "holds a dict with nothing, not named tensors"),
        (saved({"epoch": 3, "model": {"x": 1}}), "holds a dict with epoch, model, not named tensors"),
        (saved([torch.ones(1)]), "holds one list, not named tensors. Save a model's state_dict()"),
        (saved(torch.ones(1)), "holds one Tensor, not named tensors"),
        (text(pickle.dumps({"a": 1}, 2)), "is damaged or incomplete"),
    ],
)
def test_other_files_are_described(tmp_path, write, message):
    path = tmp_path / "x.pt"
    write(path)
    assert message in refused(path)


def test_an_absent_file_suggests_similar_names(tmp_path):
    (tmp_path / "ViT-B-16.pt").touch()
    (tmp_path / "notes.txt").touch()
    assert "Did you mean ViT-B-16.pt?" in refused(tmp_path / "ViT-B-61.pt")
    assert "zzz. Check the path." in refused(tmp_path / "zzz")
    assert "Without a path, OpenAI's ViT-B/16 is downloaded" in refused(tmp_path / "zzz")
    assert "folder" in refused(tmp_path / "gone" / "x.pt")


def test_a_broken_link_names_its_target(tmp_path):
    (tmp_path / "x.pt").symlink_to(tmp_path / "gone.pt")
    assert f"is a link to {tmp_path / 'gone.pt'}, which does not exist" in refused(tmp_path / "x.pt")


def test_a_folder_lists_its_weights(tmp_path):
    assert refused(tmp_path).endswith(
        "is a folder. Give the weights file itself. It holds no .pt / .pth / .bin / .safetensors file."
    )
    (tmp_path / "open_clip_model.safetensors").touch()
    assert refused(tmp_path).endswith("It holds open_clip_model.safetensors.")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "device or a pipe" in refused(tmp_path / "pipe")


def test_a_file_without_read_permission(tmp_path, files, monkeypatch):
    def closed(self, *arguments, **named):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", closed)
    assert "No permission to read" in refused(files / "zip")


@pytest.mark.parametrize("name", ["x" * 5000, "nul\0byte"], ids=["long", "nul"])
def test_an_invalid_file_name(tmp_path, name):
    with pytest.raises(WeightsError, match="cannot be read"):
        read_weights(tmp_path / name)


def test_an_interrupt_is_not_swallowed(files, monkeypatch):
    def stop(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("tagmask.clip.safetensors_file.safe_open", stop)
    with pytest.raises(KeyboardInterrupt):
        read_weights(files / "safetensors")
