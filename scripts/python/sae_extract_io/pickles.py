"""Reads pickles that hold plain data, without the module `pickle` and without calling anything that a file names.

NumPy's arrays and types are built from the arguments and states with which the pickle would make them.
Sources/ArrayFiles/PickleReader.swift accepts and refuses the same pickles; change both together. The opcodes are those of protocols 2
to 4 that plain data and NumPy's arrays need; they are defined in CPython's Lib/pickletools.py.

The pickle's length bounds time and memory: repeated references share a value, and no memory is allocated for a length before
that many bytes are present.
"""

from __future__ import annotations

import math
import pickletools
import re
import struct
from dataclasses import dataclass, field
from typing import Any, Callable

from .errors import excerpt

# The largest number of values of a pickle, and of its memo. A value of one byte in a pickle takes about 60 bytes in
# Python.
VALUES = 1 << 20

# The largest number of operations that make tuples or lists with elements, or that fill lists and dictionaries. This
# also limits nesting.
CONTAINERS = 4096

# The names of all opcodes.
NAMES = {code.code.encode("latin-1")[0]: code.name for code in pickletools.opcodes}

# The functions and classes that make arrays, types and single numbers, by their paths in NumPy 1 and NumPy 2.
KNOWN = {
    "numpy.core.multiarray._reconstruct": "_reconstruct",
    "numpy._core.multiarray._reconstruct": "_reconstruct",
    "numpy.core.multiarray.scalar": "scalar",
    "numpy._core.multiarray.scalar": "scalar",
    "numpy.dtype": "dtype",
    "numpy.ndarray": "ndarray",
}


class PickleError(ValueError):
    """A pickle is damaged. The message continues a sentence that begins with the array's name."""


class RefusedPickle(PickleError):
    """A pickle has something that is not plain data."""


@dataclass(eq=False)
class Function:
    """A function or class of `KNOWN`, by its short name. It is never called."""

    name: str


@dataclass(eq=False)
class ElementType:
    """A NumPy dtype."""

    # Kind and size of the type, such as "i4" or "O8".
    code: str
    # The byte order: "<", ">", "|" or "=". Empty until the state of the type has been read.
    order: str = ""

    @property
    def descr(self) -> str:
        """NumPy's type string, "<i4"."""
        return self.order + self.code

    @property
    def is_object(self) -> bool:
        return self.code[0] == "O"


@dataclass(eq=False)
class Array:
    """A NumPy array."""

    # The element type. None until the state of the array has been read.
    type: ElementType | None = None
    shape: tuple[int, ...] = ()
    is_fortran: bool = False
    # The bytes of the elements of an array of numbers.
    data: bytes = b""
    # The elements of an object array.
    objects: list = field(default_factory=list)


def load(content: bytes) -> Any:
    """Returns the value of the pickle `content`: None, bool, int, float, str, bytes, list, tuple, dict with str keys,
    `ElementType`, `Array`, or `Function` for a known function or class. Raises `PickleError`."""
    return _Reader(content).run()


def _damaged(reason: str) -> PickleError:
    return PickleError(f"holds a pickle that is damaged ({reason})")


def _refused(what: str) -> RefusedPickle:
    return RefusedPickle(f"holds a pickle with {what}; only plain data is loaded")


_MARK = object()


class _Reader:
    """The stack machine that executes a pickle's opcodes."""

    def __init__(self, content: bytes):
        self.content = content
        self.position = 0
        self.stack: list = []
        self.memo: dict[int, Any] = {}
        self.values = VALUES
        self.containers = CONTAINERS

    def run(self) -> Any:
        while True:
            code = self.take(1)[0]
            if code == 0x2E:  # STOP
                value = self.pop()
                if self.position != len(self.content):
                    raise _damaged("it does not end where it says")
                return value
            if code not in NAMES:
                raise _damaged(f"no opcode is {code}")
            if code not in STEPS:
                raise _refused(f"opcode {NAMES[code]}")
            STEPS[code](self)

    # Bytes

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.content):
            raise _damaged("it is cut short")
        taken = self.content[self.position : end]
        self.position = end
        return taken

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def text(self, count: int) -> str:
        try:
            return self.take(count).decode("utf-8")
        except UnicodeDecodeError:
            raise _damaged("text that is not UTF-8") from None

    def line(self) -> str:
        end = self.content.find(b"\n", self.position)
        if end < 0:
            raise _damaged("it is cut short")
        text = self.text(end - self.position)
        self.position = end + 1
        return text

    def long(self) -> int:
        count = self.number(1)
        if count > 8:
            raise _refused(f"an integer of {count} bytes")
        return int.from_bytes(self.take(count), "little", signed=True)

    # The stack

    def push(self, value: Any) -> None:
        self.values -= 1
        if self.values < 0:
            raise _refused(f"more than {VALUES} values")
        self.stack.append(value)

    def pop(self) -> Any:
        """Removes and returns the value on top. Raises `PickleError` for an array whose state has not been read."""
        value = self.pop_any()
        if isinstance(value, Array) and value.type is None:
            raise _damaged("an array without a state")
        return value

    def pop_any(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise _damaged("it takes more than there is")
        return self.stack.pop()

    def pop_to_mark(self) -> list:
        values = []
        while self.stack:
            if self.stack[-1] is _MARK:
                self.stack.pop()
                return values[::-1]
            values.append(self.pop())
        raise _damaged("it takes more than there is")

    def put(self, slot: int) -> None:
        if not self.stack or self.stack[-1] is _MARK:
            raise _damaged("it takes more than there is")
        if len(self.memo) == VALUES:
            raise _refused(f"more than {VALUES} values")
        self.memo[slot] = self.stack[-1]

    def get(self, slot: int) -> None:
        if slot not in self.memo:
            raise _damaged("it refers to what is not there")
        value = self.memo[slot]
        if isinstance(value, (list, dict)):
            raise _refused("a list or dictionary in two places")
        self.push(value)

    # Lists, tuples, dictionaries

    def count_container(self) -> None:
        self.containers -= 1
        if self.containers < 0:
            raise _refused(f"more than {CONTAINERS} lists")

    def collect(self, count: int | None, kind: type) -> None:
        self.count_container()
        values = self.pop_to_mark() if count is None else [self.pop() for _ in range(count)][::-1]
        self.push(kind(values))

    def append(self, values: list) -> None:
        self.count_container()
        if not self.stack or not isinstance(self.stack[-1], list):
            raise _damaged("a list is missing")
        self.stack[-1].extend(values)

    def set_items(self, items: list) -> None:
        self.count_container()
        if not self.stack or not isinstance(self.stack[-1], dict) or len(items) % 2:
            raise _damaged("a dictionary is missing")
        keys = items[::2]
        if not all(type(key) is str for key in keys):
            raise _refused("a key that is no text")
        self.stack[-1].update(zip(keys, items[1::2]))

    # NumPy's objects

    def function(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise _damaged("a name that is no text")
        path = f"{module}.{name}"
        if path not in KNOWN:
            raise _refused(excerpt(path))
        self.push(Function(KNOWN[path]))

    def reduce(self) -> None:
        """Builds the value that the function on the stack would return, without calling it. The function must be known."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(arguments, tuple) or not isinstance(function, Function):
            raise _refused("a call of what is no function")
        if function.name == "_reconstruct":
            self.push(Array())
        elif function.name == "dtype":
            self.push(self.element_type(arguments))
        elif function.name == "scalar":
            if len(arguments) != 2 or not isinstance(arguments[0], ElementType) or type(arguments[1]) is not bytes:
                raise _damaged("a number without type or bytes")
            self.push(self.array((), arguments[0], False, arguments[1]))
        else:
            raise _refused("a call of numpy.ndarray")

    def build(self) -> None:
        """Gives an array or a type its state."""
        state, value = self.pop(), self.pop_any()
        if not isinstance(state, tuple):
            raise _refused("an object with a state")
        if isinstance(value, ElementType) and not value.order:
            value.order = self.byte_order(state)
        elif isinstance(value, Array) and value.type is None:
            if len(state) != 5 or state[0] != 1:
                raise _damaged("an array without shape or type")
            vars(value).update(vars(self.array(*state[1:])))
        else:
            raise _refused("an object with a state")
        self.push(value)

    def element_type(self, arguments: tuple) -> ElementType:
        code = arguments[0] if arguments else None
        if type(code) is not str:
            raise _damaged("a type without a name")
        if not re.fullmatch(r"O[48]?|b1|[iu][1248]|f[248]", code):
            raise _refused(f"NumPy's type {excerpt(repr(code))}")
        return ElementType(code)

    def byte_order(self, state: tuple) -> str:
        # The state: (version, byte order, subtype, names of fields, fields, size, alignment, flags).
        if len(state) != 8 or state[0] != 3 or state[1] not in ("<", ">", "|", "="):
            raise _damaged("a type without a byte order")
        if any(part is not None for part in state[2:5]):
            raise _refused("a type of NumPy's with fields")
        return state[1]

    def array(self, shape: Any, kind: Any, is_fortran: Any, data: Any) -> Array:
        if (
            not isinstance(shape, tuple)
            or len(shape) > 32
            or not all(type(size) is int and size >= 0 for size in shape)
            or not isinstance(kind, ElementType)
            or not kind.order
        ):
            raise _damaged("an array without shape or type")
        count = math.prod(shape)
        if kind.is_object:
            if type(data) is not list or len(data) != count:
                raise _damaged("an array of objects without as many as its shape says")
            return Array(kind, shape, is_fortran is True, objects=data)
        if type(data) is not bytes or len(data) != count * int(kind.code[1:]):
            raise _damaged("an array without as many bytes as its shape says")
        return Array(kind, shape, is_fortran is True, data)


STEPS: dict[int, Callable[[_Reader], Any]] = {
    0x80: lambda r: r.take(1),  # PROTO
    0x95: lambda r: r.take(8),  # FRAME
    0x28: lambda r: r.push(_MARK),
    0x4E: lambda r: r.push(None),
    0x88: lambda r: r.push(True),
    0x89: lambda r: r.push(False),
    0x4B: lambda r: r.push(r.number(1)),  # BININT1
    0x4D: lambda r: r.push(r.number(2)),  # BININT2
    0x4A: lambda r: r.push(int.from_bytes(r.take(4), "little", signed=True)),  # BININT
    0x8A: lambda r: r.push(r.long()),  # LONG1
    0x47: lambda r: r.push(struct.unpack(">d", r.take(8))[0]),  # BINFLOAT
    0x58: lambda r: r.push(r.text(r.number(4))),  # BINUNICODE
    0x8C: lambda r: r.push(r.text(r.number(1))),  # SHORT_BINUNICODE
    0x8D: lambda r: r.push(r.text(r.number(8))),  # BINUNICODE8
    0x43: lambda r: r.push(r.take(r.number(1))),  # SHORT_BINBYTES
    0x42: lambda r: r.push(r.take(r.number(4))),  # BINBYTES
    0x8E: lambda r: r.push(r.take(r.number(8))),  # BINBYTES8
    0x29: lambda r: r.push(()),  # EMPTY_TUPLE
    0x5D: lambda r: r.push([]),  # EMPTY_LIST
    0x7D: lambda r: r.push({}),  # EMPTY_DICT
    0x85: lambda r: r.collect(1, tuple),  # TUPLE1
    0x86: lambda r: r.collect(2, tuple),  # TUPLE2
    0x87: lambda r: r.collect(3, tuple),  # TUPLE3
    0x74: lambda r: r.collect(None, tuple),  # TUPLE
    0x6C: lambda r: r.collect(None, list),  # LIST
    0x61: lambda r: r.append([r.pop()]),  # APPEND
    0x65: lambda r: r.append(r.pop_to_mark()),  # APPENDS
    0x73: lambda r: r.set_items([r.pop(), r.pop()][::-1]),  # SETITEM
    0x75: lambda r: r.set_items(r.pop_to_mark()),  # SETITEMS
    0x71: lambda r: r.put(r.number(1)),  # BINPUT
    0x72: lambda r: r.put(r.number(4)),  # LONG_BINPUT
    0x94: lambda r: r.put(len(r.memo)),  # MEMOIZE
    0x68: lambda r: r.get(r.number(1)),  # BINGET
    0x6A: lambda r: r.get(r.number(4)),  # LONG_BINGET
    0x63: lambda r: r.function(r.line(), r.line()),  # GLOBAL
    0x93: lambda r: r.function(*[r.pop(), r.pop()][::-1]),  # STACK_GLOBAL
    0x52: lambda r: r.reduce(),
    0x62: lambda r: r.build(),
}
