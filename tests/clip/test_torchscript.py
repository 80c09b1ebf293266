"""Crafted archives. `data.pkl` is written opcode by opcode, since no ordinary writer produces these."""

import contextlib
import pickle
import struct
import sys
import zipfile

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tagmask.clip.archives import read_weights
from tagmask.errors import WeightsError

NUMBERS = torch.arange(12, dtype=torch.float32)
CODE = 'class M(Module):\n  __parameters__ = ["a", ]\n  __buffers__ = []\n'


def plain(value):
    """Opcodes that push a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def call(name, *arguments):
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def storage(key="0", kind="FloatStorage"):
    return (
        b"(" + plain("storage") + f"ctorch\n{kind}\n".encode() + plain(key) + plain("cpu") + plain(12) + b"tQ"
    )


def tensor(offset, size, stride, record=None):
    layout = (plain(offset), plain(size), plain(stride), plain(False))
    return call(
        "torch._utils._rebuild_tensor_v2", record or storage(), *layout, call("collections.OrderedDict")
    )


def memo(operation, slot):
    return operation + struct.pack("<I", slot)


def module(*, slot=2000, **attributes):
    """Opcodes that push a module M, which is in the memo slot before its attributes are made."""
    items = b"".join(plain(name) + value for name, value in attributes.items())
    return b"c__torch__\nM\n)\x81" + memo(b"r", slot) + b"}(" + items + b"ub"


def write(path, top, *, compression=zipfile.ZIP_STORED, code=CODE, **records):
    records |= {
        "constants.pkl": b"\x80\x02).",
        "code/__torch__.py": code,
        "data.pkl": b"\x80\x02" + top + b".",
    }
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("root/data/0", NUMBERS.numpy().tobytes(), compression)
        for name, content in records.items():
            file.writestr(f"root/{name}", content)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "crafted.pt"


def refused(path):
    with pytest.raises(WeightsError) as error:
        read_weights(path)
    assert str(path) in str(error.value)
    return str(error.value)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    offset=st.integers(-2, 13),
    size=st.lists(st.integers(-1, 4), max_size=3).map(tuple),
    stride=st.lists(st.integers(-1, 7), max_size=3).map(tuple),
)
def test_a_tensor_is_read_only_if_it_is_inside_its_record(path, offset, size, stride):
    write(path, module(a=tensor(offset, size, stride)))
    cells = [offset]
    for n, step in zip(size, stride, strict=False):
        cells = [cell + i * step for cell in cells for i in range(n)]
    valid = len(size) == len(stride) and min((offset, *size, *stride)) >= 0
    # an empty tensor reads nothing, but may not start past the end either
    if valid and all(cell < 12 for cell in cells) and (cells or offset <= 12):
        got = read_weights(path).tensors["a"]
        assert got.shape == size
        assert got.flatten().tolist() == [float(cell) for cell in cells]
    else:
        assert "reaches outside its record of 12 values" in refused(path)


def test_sizes_beyond_64_bits_are_refused(path):
    assert "outside" in refused(write(path, module(a=tensor(2**70, (1,), (1,)))))
    assert "outside" in refused(write(path, module(a=tensor(0, (2**62, 2**62), (2**62, 1)))))


def test_a_record_is_measured_in_its_own_dtype(path):
    write(path, module(a=tensor(0, (7,), (1,), storage(kind="DoubleStorage"))))
    assert "outside its record of 6 values" in refused(path)


@pytest.mark.parametrize("record", [plain([1.0, 2.0]), plain(None), tensor(0, (12,), (1,))])
def test_a_tensor_must_refer_to_a_storage(path, record):
    write(path, module(a=tensor(4, (12,), (1,), record)))
    assert "something other than a storage" in refused(path)


@pytest.mark.parametrize(
    "name",
    [
        "os.mkdir",
        "builtins.eval",
        "builtins.getattr",
        "torch.load",
        "torch._utils._rebuild_tensor_v3",
        "_torch__.M",
    ],
)
def test_every_other_global_is_refused_by_name(path, name):
    trap = path.parent / "sprung"
    write(path, module(a=call(name, plain(str(trap)))))
    assert f"needs {name};" in refused(path)
    assert not trap.exists()


def test_a_module_that_contains_itself_is_refused(path):
    assert "endlessly" in refused(write(path, module(again=memo(b"j", 2000))))


def test_exponentially_many_modules_are_refused(path):
    # fourteen modules, each contained twice in the next
    top = module(slot=2000)
    for slot in range(2001, 2014):
        top = module(slot=slot, a=top, b=memo(b"j", slot - 1))
    assert "endlessly" in refused(write(path, top))


@pytest.mark.parametrize(
    "opcodes", [b"", b"0", b"\xff", b"Q", plain(1) + b"Q", b"(", b"c__torch__\nM\n(K\x01tR"]
)
def test_an_invalid_pickle_is_reported_as_damage(path, opcodes):
    assert "is damaged or incomplete" in refused(write(path, opcodes))


@pytest.mark.parametrize("slot", [b"r\xff\xff\xff\xff", b"p4000000000\n"])
def test_large_memo_slots_use_no_memory(path, slot):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write(path, b"}" + slot + b"0" + module(a=tensor(0, (12,), (1,))))
    assert torch.equal(read_weights(path).tensors["a"], NUMBERS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # 1 GiB, in KiB


def test_operations_of_later_protocols_are_reported_as_damage(path):
    # an empty set is harmless; BYTEARRAY8, of the same age, allocates the exabyte that it announces
    assert "damaged" in refused(write(path, b"\x8f0" + module()))
    assert "damaged" in refused(write(path, b"\x96" + struct.pack("<Q", 1 << 60) + module()))


# BUILD with (None, {...}) sets attributes, BUILD with {...} updates the dict
@pytest.mark.parametrize("state", [(None, {"__defaults__": (1,), "kind": "x"}), {"kind": "x"}, (1, 2, 3, 4)])
@pytest.mark.parametrize(
    "victim",
    [
        b"c__torch__\nM\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ctorch.jit._pickle\nbuild_intlist\n",
        b"ctorch\nFloatStorage\n",
        b"ccollections\nOrderedDict\n",
        storage(),
        tensor(0, (12,), (1,)),
    ],
)
def test_attributes_set_by_a_pickle_do_not_persist(path, victim, state):
    with contextlib.suppress(WeightsError):
        read_weights(write(path, victim + plain(state) + b"b0" + module(a=tensor(0, (12,), (1,)))))
    write(path, module(a=tensor(0, (12,), (1,))))
    assert torch.equal(read_weights(path).tensors["a"], NUMBERS)


@pytest.mark.parametrize(
    "change", [plain(0) + plain(5.0) + b"s", plain([1, 2]) + b"b", b"(" + plain(1) + plain(5.0) + b"u"]
)
def test_a_pickle_cannot_change_a_tensor(path, change):
    write(path, module(a=tensor(0, (12,), (1,)) + change))
    assert "damaged" in refused(path)


def test_missing_and_compressed_records(path):
    assert "its record data/7 is missing" in refused(
        write(path, module(a=tensor(0, (1,), (1,), storage("7"))))
    )
    good = module(a=tensor(0, (1,), (1,)))
    assert "data/0 is compressed or encrypted" in refused(write(path, good, compression=zipfile.ZIP_DEFLATED))
    content = write(path, good).read_bytes()
    entry = content.index(b"PK\x01\x02")
    path.write_bytes(content[: entry + 8] + b"\1" + content[entry + 9 :])
    assert "data/0 is compressed or encrypted" in refused(path)


def test_a_record_must_be_inside_the_file(path):
    content = write(path, module(a=tensor(0, (1,), (1,)))).read_bytes()
    entry = content.index(b"PK\x01\x02")
    assert content[entry + 46 :].startswith(b"root/data/0")
    path.write_bytes(content[: entry + 24] + struct.pack("<I", len(content)) + content[entry + 28 :])
    assert "data/0 ends after the file does" in refused(path)
    path.write_bytes(b"PK\x03\x04" + b"\0" * 4 + content[8:].replace(b"PK\x03\x04", b"PK\x03\x05"))
    assert "damaged" in refused(path)


def test_a_record_s_own_header_is_checked(path):
    content = write(path, module(a=tensor(0, (1,), (1,)))).read_bytes()
    entry = content.index(b"PK\x01\x02")
    path.write_bytes(content[: entry + 42] + struct.pack("<I", 7) + content[entry + 46 :])
    assert "its table of contents is wrong" in refused(path)


def test_a_huge_pickle_is_refused_before_it_is_decompressed(path):
    content = write(path, plain(1)).read_bytes()
    entry = content.rindex(b"PK\x01\x02")
    assert content[entry + 46 :].startswith(b"root/data.pkl")
    path.write_bytes(content[: entry + 24] + struct.pack("<I", 2**31) + content[entry + 28 :])
    assert "data.pkl claims 2147483648 bytes" in refused(path)


def test_byte_order(path):
    write(path, module(a=tensor(0, (12,), (1,))), byteorder=sys.byteorder)
    assert torch.equal(read_weights(path).tensors["a"], NUMBERS)
    other = {"little": "big", "big": "little"}[sys.byteorder]
    assert f"is {other}-endian" in refused(write(path, plain(1), byteorder=other))


@pytest.mark.parametrize(
    ("code", "names"),
    [
        (CODE, {"a"}),
        ('class M(Module):\n  __parameters__ = []\n  __buffers__ = ["b", "c", ]\n  c : int\n', {"b"}),
        ("class M(Module):\n  a : Tensor\n  b : Tensor\n", {"a", "b"}),  # lists none: all are state
        ("class M(Other):\n  a : Tensor\n", set()),  # no module
        ("", set()),
    ],
)
def test_the_source_lists_parameters_and_buffers(path, code, names):
    top = module(a=tensor(0, (1,), (1,)), b=tensor(1, (1,), (1,)), c=plain(3))
    assert read_weights(write(path, top, code=code)).tensors.keys() == names


def test_names_and_sources_have_limits(path):
    long = {"a": tensor(0, (1,), (1,)), "x" * 2000: tensor(0, (1,), (1,))}
    listed = CODE.replace('"a"', '"a", "' + "x" * 2000 + '"')
    assert read_weights(write(path, module(**long), code=listed)).tensors.keys() == {"a"}
    sources = {f"code/{number}.py": " " * 6_000_000 for number in range(3)}
    assert "claims 6000000 bytes" in refused(write(path, module(), **sources))


def test_huge_integers_in_shapes_are_refused(path):
    huge = b"\x8b" + struct.pack("<I", 400_000) + b"\x7f" * 400_000
    shape = huge + huge + b"\x86"
    opcodes = call("torch._utils._rebuild_tensor_v2", storage(), plain(0), shape, shape, plain(False))
    assert "damaged" in refused(write(path, module(a=opcodes)))
