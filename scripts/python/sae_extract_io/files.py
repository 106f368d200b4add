"""Reads and checks single files of a run, independently of other files.

Every function raises `RunError` if a file is missing, damaged or of another type or shape. `advice` is the next step that ends
each message.
"""

from __future__ import annotations

import contextlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy.sparse

from . import npy, pickles
from .errors import RunError, excerpt
from .opening import BLOCK_BYTES, open_file, read_text

# The largest accepted size of a metadata member in bytes. It needs about 100 bytes, and 4 bytes for each document.
METADATA_BYTES = 64 << 20

# The largest accepted size of an archive's directory in bytes. A directory of six members has about 400 bytes. Python
# needs ten times as much memory as the directory has bytes.
DIRECTORY_BYTES = 1 << 20

# Errors that the libraries raise for damaged files. RuntimeError is raised for encrypted members and for deeply
# nested JSON.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@contextlib.contextmanager
def _reading(path: Path, advice: str) -> Iterator[None]:
    """Converts the libraries' errors for a missing or damaged file into `RunError`."""
    try:
        yield
    except FileNotFoundError:
        raise RunError(f"{path}: there is no such file; {advice}") from None
    except pickles.RefusedPickle as error:
        raise RunError(
            f"{path}: {error}. sae-extract and NumPy do not write this, and numpy.load(…, allow_pickle=True) would execute "
            f"it: ask who made the file, or {advice}"
        ) from None
    except DAMAGE as error:
        reason = error.args[0] if isinstance(error, KeyError) and error.args else str(error) or type(error).__name__
        raise RunError(f"{path}: is damaged or not a file of sae-extract ({excerpt(reason)}); {advice}") from None
    except MemoryError:
        raise RunError(f"{path}: its content needs more memory than there is; {advice}, or use a larger machine") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from None


class _DirectoryReader:
    """A file for `zipfile` in which one read returns at most `limit` bytes, unless `limit` is None.

    An archive can claim any size for its directory, and `zipfile` would read that many bytes at once.
    """

    def __init__(self, file: BinaryIO):
        self.limit: int | None = DIRECTORY_BYTES
        self.file = file
        self.seek, self.tell, self.seekable, self.close = file.seek, file.tell, file.seekable, file.close

    def read(self, size: int = -1) -> bytes:
        if self.limit is None:
            return self.file.read(size)
        if size > self.limit:
            raise ValueError(f"its directory has {size} bytes, more than {self.limit}")
        # `zipfile` finds the end of the directory by seeking to near the end of the file and reading the rest without
        # a size.
        return self.file.read(size if size >= 0 else self.limit)


@contextlib.contextmanager
def _archive(path: Path, advice: str) -> Iterator[zipfile.ZipFile]:
    with _reading(path, advice), open_file(path, advice) as file:
        reader = _DirectoryReader(file)
        with zipfile.ZipFile(reader) as archive:
            reader.limit = None
            yield archive


def _expect(path: Path, what: str, expected, got, advice: str) -> None:
    if expected != got:
        raise RunError(f"{path}: {what}: expected {excerpt(expected)}, got {excerpt(got)}; {advice}")


def read_texts(path: Path, length: int, advice: str) -> list[str]:
    """Returns the JSON array of `length` texts in the file at `path`."""
    value = _read_list(path, length, advice)
    for number, text in enumerate(value):
        if type(text) is not str:
            raise RunError(f"{path}: document {number}: expected a text, got {type(text).__name__}; {advice}")
    return value


def read_pieces(path: Path, shape: tuple[int, int], advice: str) -> list[list[str]]:
    """Returns the JSON array of `shape[0]` arrays of `shape[1]` texts in the file at `path`."""
    value = _read_list(path, shape[0], advice)
    for number, row in enumerate(value):
        if type(row) is not list or not all(type(piece) is str for piece in row):
            raise RunError(f"{path}: document {number}: expected an array of texts, got something else; {advice}")
        if len(row) != shape[1]:
            raise RunError(f"{path}: document {number}: expected {shape[1]} pieces, got {len(row)}; {advice}")
    return value


def _read_list(path: Path, length: int, advice: str) -> list:
    with _reading(path, advice):
        value = json.loads(read_text(path, advice))
    if not isinstance(value, list):
        raise RunError(f"{path}: expected a JSON array, got {type(value).__name__}; {advice}")
    _expect(path, "number of documents", length, len(value), advice)
    return value


def read_metric(path: Path, shape: tuple[int, int], advice: str) -> np.ndarray:
    """Returns the float16 array (D, T) in the file at `path`, converted to float32."""
    with _reading(path, advice), open_file(path, advice) as file:
        header = npy.read_header(file)
        _expect(path, "shape (D, T)", shape, header.shape, advice)
        _expect(path, "dtype", "float16", header.dtype_name, advice)
        return npy.read_values(file, header).astype(np.float32)


def _open_member(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    info = archive.getinfo(name + ".npy")
    # NumPy and sae-extract use only these two methods. Other methods can require a dictionary of gigabytes.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in a way that NumPy does not use, {info.compress_type}")
    return archive.open(info)


def _read_member(path: Path, archive: zipfile.ZipFile, name: str, types: list[str], shape: tuple, advice: str) -> np.ndarray:
    with _open_member(archive, name) as member:
        header = npy.read_header(member)
        if header.dtype_name not in types:
            _expect(path, f"dtype of {name}", " or ".join(types), header.dtype_name, advice)
        _expect(path, f"shape of {name}", shape, header.shape, advice)
        return npy.read_values(member, header)


def read_metadata(path: Path, advice: str) -> dict:
    """Returns the metadata of an activations file: author, docs_count, layer, tokens_per_doc (int32 (D,)), sae_name.

    The file stores a pickled dictionary. `pickles` reads it as plain data, without calling anything.
    """
    with _archive(path, advice) as archive, _open_member(archive, "metadata") as member:
        header = npy.read_header(member)
        if header.shape != () or header.descr != "|O":
            raise ValueError(f"its metadata is {header.dtype_name} {header.shape}, not one object")
        content = member.read(METADATA_BYTES + 1)
        if len(content) > METADATA_BYTES:
            raise ValueError(f"its metadata has more than {METADATA_BYTES >> 20} MB")
        try:
            value = pickles.load(content)
        except pickles.PickleError as error:
            raise type(error)(f"its metadata {error}") from None
        # NumPy pickles an object array of shape () as an array, so the dictionary is the only element of that array.
        found = value.objects[0] if isinstance(value, pickles.Array) and value.type.is_object and value.shape == () else None
        return _metadata(found)


def _metadata(found) -> dict:
    kinds = {"author": str, "docs_count": int, "layer": int, "tokens_per_doc": object, "sae_name": str}
    if not isinstance(found, dict) or not set(kinds) <= set(found):
        raise ValueError(f"its metadata is not a dictionary of {', '.join(kinds)}")
    metadata = {key: found[key] for key in kinds}
    for key, kind in kinds.items():
        if kind is not object and type(metadata[key]) is not kind:
            raise ValueError(f"its metadata's {key} is not {'a text' if kind is str else 'an integer'}")
    tokens = metadata["tokens_per_doc"]
    if isinstance(tokens, pickles.Array) and len(tokens.shape) == 1 and tokens.type.descr in ("<i4", "<i8", "<u4"):
        counts = np.frombuffer(tokens.data, tokens.type.descr).astype(np.int64)
    elif isinstance(tokens, (list, tuple)) and all(type(count) is int for count in tokens):
        counts = np.array(tokens, np.int64)
    else:
        raise ValueError("its metadata's tokens_per_doc is not an array of integers")
    if counts.size and not 0 <= counts.min() <= counts.max() < 1 << 31:
        raise ValueError("its metadata's tokens_per_doc has numbers that are not counts")
    metadata["tokens_per_doc"] = counts.astype(np.int32)
    return metadata


def read_sparse(path: Path, shape: tuple[int, int], advice: str) -> scipy.sparse.csr_matrix:
    """Returns the CSR matrix float32 (D*T, F) of a `.sparse.npz` file."""
    (rows, width), integers = shape, ["int32", "int64"]
    with _archive(path, advice) as archive:
        form = _read_member(path, archive, "format", ["|S3"], (), advice).item()
        _expect(path, "format", b"csr", form, advice)
        stored = tuple(_read_member(path, archive, "shape", integers, (2,), advice).tolist())
        _expect(path, "shape (D*T, F)", shape, stored, advice)
        indptr = _read_member(path, archive, "indptr", integers, (rows + 1,), advice)
        if indptr[0] != 0 or (indptr[1:] < indptr[:-1]).any():
            raise ValueError("its indptr does not ascend from 0")
        count = int(indptr[-1])
        if count > rows * width:
            raise ValueError(f"its indptr announces {count} entries in {rows * width} places")
        indices = _read_member(path, archive, "indices", integers, (count,), advice)
        data = _read_member(path, archive, "data", ["float32"], (count,), advice)
        if count and not 0 <= indices.min() <= indices.max() < width:
            raise ValueError(f"its indices are not all from 0 to {width - 1}")
        ascends = np.ones(count + 1, bool)
        ascends[1:-1] = indices[1:] > indices[:-1]
        # The first index of a row may be smaller than the last index of the row before.
        ascends[indptr] = True
        if not ascends.all():
            raise ValueError("its indices do not ascend within a row")
        if not data.all():
            raise ValueError("it has entries that are 0")
        matrix = scipy.sparse.csr_matrix((data, indices, indptr), shape=shape)
    matrix.has_sorted_indices = True
    return matrix


def read_dense(path: Path, shape: tuple[int, int, int], advice: str) -> scipy.sparse.csr_matrix:
    """Returns the float32 array (D, T, F) of a dense `.npz` file as a CSR matrix (D*T, F).

    The array is decompressed in blocks of 1 MiB. Memory holds one block and the nonzero elements, never the whole array.
    """
    rows, width = shape[0] * shape[1], shape[2]
    columns, values = [], []
    with _archive(path, advice) as archive, _open_member(archive, "activations") as member:
        header = npy.read_header(member)
        _expect(path, "shape (D, T, F)", shape, header.shape, advice)
        _expect(path, "dtype", "float32", header.dtype_name, advice)
        _expect(path, "order", "C", "Fortran" if header.is_fortran else "C", advice)
        indptr = np.zeros(rows + 1, np.int64)
        # A block is a number of whole rows. If one row is larger than a block, a block is a part of a row.
        step = max(1, BLOCK_BYTES // 4)
        step = step // width * width or step
        for start in range(0, rows * width, step):
            size = 4 * min(step, rows * width - start)
            block = member.read(size)
            if len(block) != size:
                raise ValueError("its array ends too early")
            block = np.frombuffer(block, "<f4")
            where = np.flatnonzero(block != 0)  # Ten times as fast as np.nonzero(block).
            first, offset = divmod(start, width)
            row, column = np.divmod(where + offset, width)
            columns.append(column.astype(np.int32))
            values.append(block[where])
            counts = np.bincount(row)
            indptr[first + 1 : first + 1 + len(counts)] += counts
        npy.check_end(member)
        np.cumsum(indptr, out=indptr)
        columns = np.concatenate(columns) if columns else np.zeros(0, np.int32)
        values = np.concatenate(values).astype(np.float32, copy=False) if values else np.zeros(0, np.float32)
        matrix = scipy.sparse.csr_matrix((values, columns, indptr), shape=(rows, width))
    matrix.has_sorted_indices = True
    return matrix


def check_metadata(path: Path, metadata: dict, expected: dict, rows: int, advice: str) -> None:
    """Raises `RunError` if a file's `metadata` differs from `expected`.

    `expected["tokens_per_doc"]` has no padding; in the file it is padded with zeros to `rows`.
    """
    for key, value in expected.items():
        what, got = f"metadata[{key!r}]", metadata[key]
        if key == "tokens_per_doc":
            _expect(path, f"length of {what}", rows, len(got), advice)
            padded = np.zeros(rows, np.int64)
            padded[: len(value)] = value
            for number in np.flatnonzero(padded != got)[:1]:
                _expect(path, f"{what}[{number}]", padded[number], got[number], advice)
        else:
            _expect(path, what, value, got, advice)
