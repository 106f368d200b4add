"""Reads NumPy's .npy format, versions 1.0 to 3.0, for plain arrays. Never evaluates Python expressions from a file.

The format is defined in numpy/lib/format.py. Every function raises `ValueError` if the file is damaged. Memory is allocated
only for bytes that were read, never for a size in a header.
"""

from __future__ import annotations

import math
import re
from typing import BinaryIO, NamedTuple

import numpy as np

from .opening import BLOCK_BYTES

# NumPy's limit in bytes (`max_header_size`). Headers of plain arrays from sae-extract and NumPy have 118 bytes.
HEADER_BYTES = 10_000

# NumPy's names for the type strings in headers.
NAMES = {"<f2": "float16", "<f4": "float32", "<f8": "float64", "<i4": "int32", "<i8": "int64", "|O": "object"}

# The type strings that can be read. "|S3" is the type of `format` in SciPy's sparse files.
PLAIN = {"<f2", "<f4", "<i4", "<i8", "|S3"}

ITEM = re.compile(
    r"""\s*(['"])(?P<key>descr|fortran_order|shape)\1\s*:\s*"""
    r"""(?P<value>'[^']*'|"[^"]*"|True|False|\(\s*(?:\d{1,19}\s*,\s*)*(?:\d{1,19}\s*)?\))\s*(?P<comma>,?)"""
)


class Header(NamedTuple):
    """The content of a header."""

    # NumPy's type string, such as "<f4".
    descr: str
    is_fortran: bool
    shape: tuple[int, ...]

    @property
    def dtype_name(self) -> str:
        """NumPy's name of the type, "float32"; the type string for types that sae-extract does not write."""
        return NAMES.get(self.descr, self.descr)


def read_header(stream: BinaryIO) -> Header:
    """Reads the header at the beginning of `stream`. The stream is then at the first element."""
    front = stream.read(8)
    if front[:6] != b"\x93NUMPY" or len(front) < 8:
        raise ValueError("an array does not begin as .npy arrays do")
    if front[6] not in (1, 2, 3):
        raise ValueError(f"an array is of .npy version {front[6]}, which is not known")
    width = 2 if front[6] == 1 else 4
    length = int.from_bytes(read_exactly(stream, width), "little")
    if length > HEADER_BYTES:
        raise ValueError(f"an array's header has {length} bytes, more than {HEADER_BYTES}")
    return _parsed(read_exactly(stream, length).decode("utf-8" if front[6] == 3 else "latin-1"))


def _parsed(text: str) -> Header:
    found, position, goes_on = {}, 1, text.startswith("{")
    while goes_on and (item := ITEM.match(text, position)):
        found[item["key"]] = item["value"]
        position, goes_on = item.end(), item["comma"] == ","
    descr, order, shape = (found.get(key, "") for key in ("descr", "fortran_order", "shape"))
    if text[position:].strip() != "}" or descr[:1] not in ("'", '"') or order not in ("True", "False") or shape[:1] != "(":
        raise ValueError("an array's header is not that of an array of plain numbers")
    return Header(descr[1:-1], order == "True", tuple(int(size) for size in re.findall(r"\d+", shape)))


def read_values(stream: BinaryIO, header: Header) -> np.ndarray:
    """Reads the elements that follow `header`. Raises `ValueError` if `stream` does not end behind them."""
    if header.descr not in PLAIN or (header.is_fortran and len(header.shape) > 1):
        raise ValueError(f"an array is {header.dtype_name}{' in Fortran order' if header.is_fortran else ''}")
    dtype = np.dtype(header.descr)
    content = read_exactly(stream, dtype.itemsize * math.prod(header.shape))
    check_end(stream)
    return np.frombuffer(content, dtype).reshape(header.shape)


def read_exactly(stream: BinaryIO, size: int) -> bytearray:
    """Reads the next `size` bytes of `stream`. Raises `ValueError` if it has fewer."""
    content = bytearray()
    while len(content) < size:
        block = stream.read(min(BLOCK_BYTES, size - len(content)))
        if not block:
            raise ValueError(f"an array ends too early: {size} bytes were announced, {len(content)} are there")
        content += block
    return content


def check_end(stream: BinaryIO) -> None:
    """Raises `ValueError` if `stream` has more bytes. This reads to the end, where `zipfile` compares a member's checksum."""
    if stream.read(1):
        raise ValueError("an array is longer than its header says")
