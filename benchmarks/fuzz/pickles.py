"""Change pickles operation by operation, and write streams of operations that no pickler writes.

`TRAP` makes a folder when a reader runs what a pickle asks for; the harness looks for it.
"""

import pickle
import pickletools
import struct
from collections.abc import Sequence
from io import BytesIO
from random import Random

from benchmarks.fuzz.mutate import hostile_number
from benchmarks.fuzz.pieces import Format, Piece, by_pieces

__all__ = ["PICKLE", "TRAP", "mutate_pickle", "numpy_pickle", "trapped"]

TRAP = "sprung"
"""Folder that a pickle makes in the current folder if a reader runs its code."""

_NAMES = (
    "os mkdir", "posix mkdir", "builtins eval", "builtins getattr", "builtins bytearray", "builtins list",
    "numpy ndarray", "numpy dtype", "numpy.core.multiarray _reconstruct", "numpy.core.multiarray scalar",
    "numpy._core.multiarray _reconstruct", "numpy._core.numeric _frombuffer", "_codecs encode",
    "collections OrderedDict", "torch FloatStorage", "torch HalfStorage", "torch.storage UntypedStorage",
    "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_nested_tensor",
    "torch._utils _rebuild_meta_tensor_no_storage",
    "torch._utils _rebuild_qtensor", "torch._utils _rebuild_device_tensor_from_numpy", "torch Size",
    "torch.serialization _get_layout", "torch.nn.parameter Parameter", "__torch__ M",
    "torch.jit._pickle build_intlist",
)  # fmt: skip

_TEXTS = (
    b"", b"f4", b"<f4", b">f8", b"|V8", b"|O", b"V0", b"<U9", b"S4000000000", b"M8[ns]", b"i4,(2,3)f8",
    b"|b1", b"data.pkl", b"cpu", b"meta", b"cuda:9", b"storage", b"0", b"a" * 5000, b"C", b"\xff\xfe",
)  # fmt: skip


_WITHOUT_ARGUMENT = b"012.)}]tldesuabRoQ\x81\x85\x86\x87\x8f\x90\x91\x94"


_TEXT_OPERATIONS = b"XTUVS\x8c\x8d"


def mutate_pickle(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Change operations, insert hostile ones, or write a stream of operations."""
    choice = rng.randrange(6)
    if choice == 0:
        return _stream(rng)
    if choice == 1:
        return trapped(data, rng)
    if choice == 2:
        pieces = PICKLE.split(data)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(pieces) + 1)
            pieces[at:at] = [Piece(b"", operation) for operation in _operations(rng)]
        return PICKLE.join(pieces)
    return _BY_OPERATIONS(data, others, rng)


def _split(data: bytes) -> list[Piece]:
    pieces: list[Piece] = []
    stream = BytesIO(data)
    # Five, as the old format of torch.save begins with so many; what follows is data.
    for _ in range(5):
        start = stream.tell()
        try:
            places = [at for _, _, at in pickletools.genops(stream) if at is not None]
        except Exception:  # damage
            stream.seek(start)
            break
        stops = [*places[1:], stream.tell()]
        pieces += [Piece(b"", data[a:b]) for a, b in zip(places, stops, strict=True)]
    rest = data[stream.tell() :]
    return [*pieces, Piece(b"", rest)] if rest else pieces


def _join(pieces: Sequence[Piece]) -> bytes:
    return b"".join(piece.body for piece in pieces)


def _inside(operation: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Change an operation's argument, or the operation and not its argument."""
    if not operation:
        return operation
    width = len(operation) - 1
    if operation[:1] in _TEXT_OPERATIONS and rng.random() < 0.5:
        return _text(rng.choice(_TEXTS))
    match rng.randrange(4):
        case 0 if width in (1, 2, 4, 8):
            return operation[:1] + hostile_number(rng, width).to_bytes(width, "little")
        case 1:
            return rng.choice(pickletools.opcodes).code.encode("latin-1") + operation[1:]
        case 2:
            return rng.choice(_operations(rng))
        case _:
            changed = bytearray(operation)
            changed[rng.randrange(len(changed))] = rng.randrange(256)
            return bytes(changed)


PICKLE = Format(_split, _join)
"""Pickles as operations, and what follows them."""

_BY_OPERATIONS = by_pieces(PICKLE, _inside)


def _operations(rng: Random) -> list[bytes]:
    """Return a few operations, each correct for itself."""
    text = rng.choice(_TEXTS)
    name = rng.choice(_NAMES).encode()
    module, _, attribute = name.partition(b" ")
    choices = (
        [b"\x80" + bytes([rng.randrange(7)])],
        [b"c" + module + b"\n" + attribute + b"\n"],
        [b"c" + module + b"\n" + attribute + b"\n", b"(", _text(text), b"K\x00", b"t", b"R"],
        [_text(module), _text(attribute), b"\x93"],
        [_text(text)],
        [b"J" + hostile_number(rng, 4).to_bytes(4, "little")],
        [b"K" + rng.randbytes(1)],
        [b"\x8a" + (width := rng.choice((1, 8, 255))).to_bytes(1, "little") + rng.randbytes(width)],
        [b"\x8b" + struct.pack("<I", 3_000_000) + rng.randbytes(64) * 46_875],
        [b"I" + b"7" * rng.choice((3, 5000)) + b"\n"],
        [b"G" + rng.randbytes(8)],
        [b"j" + hostile_number(rng, 4).to_bytes(4, "little")],
        [b"r" + hostile_number(rng, 4).to_bytes(4, "little")],
        [b"h" + rng.randbytes(1)],
        [b"B" + hostile_number(rng, 4).to_bytes(4, "little")],
        [b"\x96" + hostile_number(rng, 8).to_bytes(8, "little")],
        [b"\x8e" + hostile_number(rng, 8).to_bytes(8, "little")],
        [b"\x95" + hostile_number(rng, 8).to_bytes(8, "little")],
        [b"]", b"q\x63", *[b"h\x63", b"a"] * 3],  # a list in itself
        [b"]", b"q\x00", *_doubling(rng.randrange(10, 40))],
        [b"("] * (1 << rng.randrange(12)),
        [b"]"] * (1 << rng.randrange(16)) + [b"a"] * 3,
        [b"\x85"] * (1 << rng.randrange(16)),  # tuples in tuples
        [bytes([rng.choice(_WITHOUT_ARGUMENT)])],
        [b"(K\x01K\x02K\x03t"],
        [b"(K\x03K\x00J\x00\x00\x00\x7ft"],
        [b"N", b"b"],
        [b"}", b"b"],
    )
    return rng.choice(choices)


def _doubling(levels: int) -> list[bytes]:
    """Lists of two references to the list before: 2 ** levels items in a few hundred bytes."""
    return [
        operation
        for level in range(1, levels)
        for operation in (b"]", b"q" + bytes([level]), b"(", *[b"h" + bytes([level - 1])] * 2, b"e")
    ]


def _text(text: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text


def numpy_pickle(rng: Random) -> bytes:
    """Write a dict from class to array whose dtype, shape or data are not what a pickler writes."""
    items = b"".join(_value(rng.choice((0, 7, -1, 99, None))) + _array(rng) + b"s" for _ in range(2))
    return b"\x80\x02}" + items + b"."


def _array(rng: Random) -> bytes:
    module = rng.choice((b"numpy.core.multiarray", b"numpy._core.multiarray"))
    dtype = b"cnumpy\ndtype\n(" + _text(rng.choice(_TEXTS[1:12])) + b"K\x00K\x01tR"
    if rng.random() < 0.6:
        dtype += _value(_dtype_state(rng)) + b"b"
    if rng.random() < 0.15:
        return b"c" + module + b"\nscalar\n(" + dtype + _value(rng.randbytes(rng.choice((0, 4, 8)))) + b"tR"
    start = b"c" + module + b"\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + _value(b"b") + b"tR"
    shape = rng.choice(((2, 3), (0,), (), (1 << 40,), (1 << 62, 4), (-1, 2), (70_000, 70_000), (2.5,), None))
    data = rng.choice((rng.randbytes(24), rng.randbytes(192), b"", [], [None] * 6, [1.5] * 6, "text", None))
    state = (
        b"(" + _value(rng.choice((1, 0, -1))) + _value(shape) + dtype + rng.choice((b"\x88", b"\x89", b"N"))
    )
    return start + state + _value(data) + b"tb"


def _dtype_state(rng: Random) -> object:
    """A state of a dtype: version, order, subarray, names, fields, size, alignment, flags."""
    state: list[object] = [3, "<", None, None, None, -1, -1, 0]
    hostile = (
        None, 0, -1, 1, 8, 1 << 31, "<", "|", "x", ("a",), ("a", "b"), {}, {"a": (None, 0)}, (None, (2,)),
    )  # fmt: skip
    for _ in range(rng.randrange(4)):
        state[rng.randrange(8)] = rng.choice(hostile)
    return tuple(state[: rng.choice((8, 8, 8, 7, 9, 0))])


def _value(value: object) -> bytes:
    """Return the operations that push a plain value."""
    return pickle.dumps(value, 2)[2:-1]


def _stream(rng: Random) -> bytes:
    operations = [b"\x80" + bytes([rng.choice((2, 2, 3, 4, 5))])]
    for _ in range(1 << rng.randrange(6)):
        operations += _operations(rng)
    return b"".join(operations) + b"."


def trapped(data: bytes, rng: Random) -> bytes:
    """Put a call of `os.mkdir` in a pickle."""
    module = rng.choice((b"os", b"posix"))
    call = b"c" + module + b"\nmkdir\n(" + _text(TRAP.encode()) + b"tR0"
    pieces = PICKLE.split(data) or [Piece(b"", pickle.dumps({}, 2))]
    pieces.insert(rng.randrange(min(len(pieces), 40)) + 1, Piece(b"", call))
    return PICKLE.join(pieces)
