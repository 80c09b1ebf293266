"""Read a pickled dict of arrays without unpickling it.

`pickle` calls what a file names, and NumPy's constructors trust their arguments: a few hundred bytes crash
the process or allocate gigabytes. Here the few instructions that a dict of arrays needs are carried out on
plain values. Nothing is imported or called, and an array's content stays in the file until it is asked for.

Source: the standard library's `pickletools`, which documents each instruction; NumPy's `__reduce_ex__`.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO, Final, Literal, TypeVar

from tagmask.printable import printable

__all__ = ["Content", "PickleError", "PickledArray", "read_pickle"]

_T = TypeVar("_T")


class PickleError(ValueError):
    """A pickle that does more than a dict of arrays needs, or that is damaged."""


@dataclass(frozen=True)
class Content:
    """Bytes or text in the file."""

    start: int
    size: int
    """In bytes of the file."""
    utf8: bool
    """Stored as UTF-8: text, or bytes as protocol 2 stores them."""
    short: bytes | None
    """What stands there, if it is short enough to be a name or a number."""

    def read(self, file: BinaryIO) -> bytes:
        """Read the bytes.

        Raises:
            PickleError: the file ends early, or they are no bytes.
        """
        data = self._stored(file, 0, self.size)
        try:
            return data.decode("utf-8").encode("latin-1") if self.utf8 else data
        except UnicodeError as error:
            raise PickleError("an array's content is not bytes") from error

    def part(self, file: BinaryIO, first: int, count: int) -> bytes:
        """Read `count` bytes from `first` on, of content that is not stored as UTF-8.

        Raises:
            PickleError: the file ends early.
        """
        assert not self.utf8  # where a byte stands is not known
        return self._stored(file, first, count)

    def _stored(self, file: BinaryIO, first: int, count: int) -> bytes:
        file.seek(self.start + first)
        data = file.read(count)
        if len(data) != count:
            raise PickleError("it ends early")
        return data


@dataclass
class PickledType:
    """A NumPy type; changed by the instruction that sets its byte order."""

    code: str
    order: str = "|"

    def __str__(self) -> str:
        return self.order.strip("|=") + self.code


@dataclass
class PickledArray:
    """An array whose content is still in the file; changed by the instruction that fills it."""

    shape: tuple[int, ...] = ()
    type: PickledType | None = None
    fortran: bool = False
    content: object = None
    """`Content`; of an array of objects, a list of them."""


@dataclass(frozen=True)
class _Name:
    """A constructor that the file names. It is never called."""

    text: str


class _Mark:
    pass


_MARK: Final = _Mark()
_SHORT: Final = 256
"""Longest text or number that is read at once."""
_TYPES: Final = frozenset(
    ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", "O", "O4", "O8")
)
"""Types that are understood; of these, only floats become maps, and only integers become classes."""
_ARRAY, _TYPE, _ENCODE = "numpy.ndarray", "numpy.dtype", "_codecs.encode"
_CORES: Final = ("numpy.core", "numpy._core")  # NumPy 1 and 2
_RECONSTRUCT: Final = frozenset(f"{core}.multiarray._reconstruct" for core in _CORES)
_SCALAR: Final = frozenset(f"{core}.multiarray.scalar" for core in _CORES)
_FROM_BUFFER: Final = frozenset(f"{core}.numeric._frombuffer" for core in _CORES)
_KNOWN: Final = {_ARRAY, _TYPE, _ENCODE} | _RECONSTRUCT | _SCALAR | _FROM_BUFFER


def read_pickle(file: BinaryIO, size: int, steps: int) -> object:
    """Carry out a pickle's instructions.

    Args:
        file: at the first instruction.
        size: of the file, in bytes.
        steps: most instructions that are carried out.

    Returns:
        What the file holds: a dict, list, tuple or number as such, arrays as `PickledArray`, text and bytes
        as `Content`. An array of one object, as `numpy.save` wraps a dict, is that object.

    Raises:
        PickleError: an instruction, constructor or type that is not known here, too many instructions, or a
            damaged file.
    """
    try:
        top = _Machine(file, size).run(steps)
    except (IndexError, KeyError, TypeError, struct.error) as error:  # too few values, or of other kinds
        raise PickleError("its instructions do not fit each other") from error
    if isinstance(top, PickledArray) and top.type is not None and top.type.code[0] == "O" and not top.shape:
        (top,) = _as(list, top.content)
    return top


class _Machine:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def run(self, steps: int) -> object:
        for _ in range(steps):
            code = self._file.read(1)
            if code == b".":
                return self._pop()
            if code not in _INSTRUCTIONS:
                raise PickleError(
                    f"it has the instruction {code!r}, which dicts of arrays do not need"
                    if code
                    else "it ends early"
                )
            _INSTRUCTIONS[code](self)
        raise PickleError(f"it has more than {steps} instructions")

    # -- What instructions are made of -----------------------------------------------------------------------

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self._file.read(struct.calcsize(form)))
        return int(value)

    def push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self) -> object:
        value = self._stack.pop()
        if value is _MARK:
            raise PickleError("its instructions do not fit each other")
        return value

    def _since_mark(self) -> list[object]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise PickleError("its instructions do not fit each other")
        values = self._stack[at + 1 :]
        del self._stack[at:]
        return values

    def content(self, form: str, *, utf8: bool) -> None:
        size, start = self.number(form), self._file.tell()
        if size > self._size - start:
            raise PickleError("it ends early")
        short = self._file.read(size) if size <= _SHORT else None
        if short is None:
            self._file.seek(size, 1)
        self.push(Content(start, size, utf8, short))

    def integer(self) -> None:
        size = self.number("<B")
        if size > 8:
            raise PickleError("a number in it is too large")
        self.push(int.from_bytes(self._file.read(size), "little", signed=True))

    def tuple_of(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def mark_tuple(self) -> None:
        self.push(tuple(self._since_mark()))

    def append(self) -> None:
        value = self._pop()
        _as(list, self._stack[-1]).append(value)

    def appends(self) -> None:
        values = self._since_mark()
        _as(list, self._stack[-1]).extend(values)

    def set_item(self) -> None:
        value, key = self._pop(), self._pop()
        _as(dict, self._stack[-1])[_key(key)] = value

    def set_items(self) -> None:
        values = self._since_mark()
        content = _as(dict, self._stack[-1])
        if len(values) % 2:
            raise PickleError("its instructions do not fit each other")
        for key, value in zip(values[::2], values[1::2], strict=True):
            content[_key(key)] = value

    def put(self, form: str) -> None:
        self._memo[self.number(form)] = self._stack[-1]

    def memoize(self) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def get(self, form: str) -> None:
        self.push(self._memo[self.number(form)])

    def name(self) -> None:
        parts = [self._file.readline(_SHORT).rstrip(b"\n").decode("latin-1") for _ in range(2)]
        self._named(".".join(parts))

    def stack_name(self) -> None:
        name, module = _text(self._pop()), _text(self._pop())
        self._named(f"{module}.{name}")

    def _named(self, text: str) -> None:
        if text not in _KNOWN:
            raise PickleError(f"it tries to run {printable(text[:80])}")
        self.push(_Name(text))

    # -- Constructors ----------------------------------------------------------------------------------------

    def reduce(self) -> None:
        """Carry out a constructor on its arguments."""
        arguments = _as(tuple, self._pop())
        name = _as(_Name, self._pop()).text
        if name == _TYPE:
            self.push(_type(_text(arguments[0])))
        elif name == _ENCODE:
            text, encoding = arguments
            if _text(encoding) not in ("latin1", "latin-1"):
                raise PickleError("it has bytes in an unknown encoding")
            self.push(_as(Content, text))
        elif name in _RECONSTRUCT:
            self.push(PickledArray())
        elif name in _SCALAR:
            kind, content = arguments
            self.push(_scalar(_as(PickledType, kind), _as(Content, content)))
        elif name in _FROM_BUFFER:
            content, kind, shape, order, *axes = arguments
            if any(axis is not None for axis in axes) or _text(order) not in ("C", "F"):
                raise PickleError("an array in it has permuted axes")
            fortran = _text(order) == "F"
            self.push(PickledArray(_shape(shape), _as(PickledType, kind), fortran, _as(Content, content)))
        else:
            raise PickleError(f"it tries to run {name}")

    def build(self) -> None:
        """Fill the array, or set the byte order of the type, that a constructor has made."""
        state = _as(tuple, self._pop())
        target = self._stack[-1]
        if isinstance(target, PickledType):
            order = _text(state[1])
            if order not in ("<", ">", "|", "="):
                raise PickleError(f"a type in it has the byte order {order!r}")
            target.order = order
            return
        array = _as(PickledArray, target)
        _, shape, kind, fortran, content = state
        array.shape, array.type = _shape(shape), _as(PickledType, kind)
        array.fortran, array.content = bool(_as(int, fortran)), content


def _as(kind: type[_T], value: object) -> _T:
    if not isinstance(value, kind):
        raise PickleError("its instructions do not fit each other")
    return value


def _text(value: object) -> str:
    short = _as(Content, value).short
    if short is None:
        raise PickleError("a name in it is too long")
    try:
        return short.decode("utf-8")
    except UnicodeError as error:
        raise PickleError("a name in it is no text") from error


def _key(value: object) -> int | str:
    """A key that can be compared at once: a tuple of tuples may take for ever."""
    return value if isinstance(value, int) else _text(value)


def _type(code: str) -> PickledType:
    if code not in _TYPES:
        raise PickleError(f"it has an array of the type {code[:20]!r}")
    return PickledType(code)


def _shape(value: object) -> tuple[int, ...]:
    shape = tuple(_as(int, side) for side in _as(tuple, value))
    if len(shape) > 32 or any(side < 0 for side in shape):
        raise PickleError("an array in it has an impossible shape")
    return shape


def _scalar(kind: PickledType, content: Content) -> object:
    """An integer as such; any other number as an array of no dimensions."""
    if kind.code[0] not in "iu":
        return PickledArray((), kind, False, content)
    short = content.short or b""
    data = short.decode("utf-8").encode("latin-1") if content.utf8 else short
    if len(data) != int(kind.code[1:]):
        raise PickleError("a number in it is damaged")
    order: Literal["little", "big"] = "big" if kind.order == ">" else "little"
    return int.from_bytes(data, order, signed=kind.code[0] == "i")


def _proto(machine: _Machine) -> None:
    if not 2 <= machine.number("<B") <= 5:
        raise PickleError("it has a protocol other than 2 to 5")


_INSTRUCTIONS: Final[Mapping[bytes, Callable[[_Machine], object]]] = MappingProxyType(
    {
        b"\x80": _proto,
        b"\x95": lambda m: m.number("<Q"),  # the length of what follows
        # Numbers
        b"N": lambda m: m.push(None),
        b"\x88": lambda m: m.push(True),
        b"\x89": lambda m: m.push(False),
        b"J": lambda m: m.push(m.number("<i")),
        b"K": lambda m: m.push(m.number("<B")),
        b"M": lambda m: m.push(m.number("<H")),
        b"\x8a": _Machine.integer,
        # Bytes and text
        b"C": lambda m: m.content("<B", utf8=False),
        b"B": lambda m: m.content("<I", utf8=False),
        b"\x8e": lambda m: m.content("<Q", utf8=False),
        b"\x96": lambda m: m.content("<Q", utf8=False),
        b"U": lambda m: m.content("<B", utf8=False),  # Python 2
        b"T": lambda m: m.content("<I", utf8=False),
        b"\x8c": lambda m: m.content("<B", utf8=True),
        b"X": lambda m: m.content("<I", utf8=True),
        b"\x8d": lambda m: m.content("<Q", utf8=True),
        # Tuples, lists, dicts
        b"(": lambda m: m.push(_MARK),
        b")": lambda m: m.push(()),
        b"\x85": lambda m: m.tuple_of(1),
        b"\x86": lambda m: m.tuple_of(2),
        b"\x87": lambda m: m.tuple_of(3),
        b"t": _Machine.mark_tuple,
        b"]": lambda m: m.push([]),
        b"a": _Machine.append,
        b"e": _Machine.appends,
        b"}": lambda m: m.push({}),
        b"s": _Machine.set_item,
        b"u": _Machine.set_items,
        # What was there before
        b"q": lambda m: m.put("<B"),
        b"r": lambda m: m.put("<I"),
        b"\x94": _Machine.memoize,
        b"h": lambda m: m.get("<B"),
        b"j": lambda m: m.get("<I"),
        # Arrays and types
        b"c": _Machine.name,
        b"\x93": _Machine.stack_name,
        b"R": _Machine.reduce,
        b"b": _Machine.build,
    }
)
