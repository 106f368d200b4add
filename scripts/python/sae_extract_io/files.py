"""The files of a run, each read and checked by itself. Knows nothing of runs.

Every function raises `RunError` where a file is missing, damaged or not what its name says; `advice` ends each message.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import scipy.sparse

from .errors import RunError

try:
    from numpy._core.multiarray import _reconstruct
except ImportError:  # NumPy 1
    from numpy.core.multiarray import _reconstruct

# Bytes of a dense array in memory at a time. Larger blocks fall out of the processor's cache.
BLOCK_BYTES = 1 << 20

# A metadata member has some hundred bytes and four for each document.
METADATA_BYTES = 64 << 20


@contextlib.contextmanager
def _reading(path: Path, advice: str):
    """Turns what the libraries raise for a missing or damaged file into `RunError`."""
    try:
        yield
    except FileNotFoundError:
        raise RunError(f"{path}: there is no such file; {advice}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError, ValueError) as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise RunError(f"{path}: is damaged or not a file of sae-extract ({reason}); {advice}") from error
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error


def _expect(path: Path, what: str, expected, got, advice: str) -> None:
    if expected != got:
        raise RunError(f"{path}: {what}: expected {expected}, got {got}; {advice}")


def read_json(path: Path, length: int, advice: str) -> list:
    """The JSON array of `length` elements in `path`."""
    with _reading(path, advice):
        value = json.loads(path.read_bytes().decode("utf-8"))
    if not isinstance(value, list):
        raise RunError(f"{path}: expected a JSON array, got {type(value).__name__}; {advice}")
    _expect(path, "number of documents", length, len(value), advice)
    return value


def read_metric(path: Path, shape: tuple[int, int], advice: str) -> np.ndarray:
    """The float16 (D, T) array in `path`, as float32."""
    with _reading(path, advice), open(path, "rb") as file:
        values = np.lib.format.read_array(file, allow_pickle=False)
        _end(file)
    _expect(path, "shape (D, T)", shape, values.shape, advice)
    _expect(path, "dtype", "float16", str(values.dtype), advice)
    return values.astype(np.float32)


class _MetadataUnpickler(pickle.Unpickler):
    """Admits what NumPy pickles arrays with, under the names of NumPy 1 and 2, and nothing that could do harm."""

    ADMITTED = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module, name):
        try:
            return self.ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is refused") from None


def _read_header(member) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(member)
    raise ValueError(f"a member has version {version} of NumPy's format")


def _end(member) -> None:
    # The checksum of a member is compared at its end, so the end must be read.
    if member.read(1):
        raise ValueError(f"{member.name} is longer than its header says")


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name + ".npy") as member:
        values = np.lib.format.read_array(member, allow_pickle=False)
        _end(member)
    return values


def read_metadata(path: Path, advice: str) -> dict:
    """The dictionary `metadata` of an activations file: author, docs_count, layer, tokens_per_doc (int32 (D,)), sae_name.

    It is a pickle. Only the types that NumPy pickles arrays with are admitted: no code of the file's is run.
    """
    with _reading(path, advice), zipfile.ZipFile(path) as archive:
        if archive.getinfo("metadata.npy").file_size > METADATA_BYTES:
            raise ValueError("its metadata is too large")
        with archive.open("metadata.npy") as member:
            shape, _, dtype = _read_header(member)
            if shape != () or dtype != np.dtype(object):
                raise ValueError(f"its metadata is {dtype} {shape}, not one object")
            try:
                value = _MetadataUnpickler(member).load()
            except Exception as error:  # Bytes that are no pickle may raise anything.
                raise ValueError(f"its metadata cannot be unpickled: {error}") from error
            _end(member)
        # An object array of shape () is pickled as itself, so there is one array around the dictionary.
        metadata = value.item() if isinstance(value, np.ndarray) and value.shape == () else value
        keys = ["author", "docs_count", "layer", "tokens_per_doc", "sae_name"]
        if not isinstance(metadata, dict) or not set(keys) <= set(metadata):
            raise ValueError(f"its metadata is not a dictionary of {', '.join(keys)}")
    return metadata


def read_sparse(path: Path, shape: tuple[int, int], advice: str) -> scipy.sparse.csr_matrix:
    """The CSR matrix float32 (D*T, F) of a `.sparse.npz` file."""
    with _reading(path, advice), zipfile.ZipFile(path) as archive:
        stored, form = tuple(_read_member(archive, "shape").tolist()), _read_member(archive, "format").item()
        _expect(path, "format", b"csr", form, advice)
        _expect(path, "shape (D*T, F)", shape, stored, advice)
        data, indices, indptr = (_read_member(archive, name) for name in ("data", "indices", "indptr"))
        _expect(path, "dtype", "float32", str(data.dtype), advice)
        matrix = scipy.sparse.csr_matrix((data, indices, indptr), shape=shape)
        matrix.check_format(full_check=True)
    return matrix


def read_dense(path: Path, shape: tuple[int, int, int], advice: str) -> scipy.sparse.csr_matrix:
    """The float32 (D, T, F) array of a dense `.npz` file, as a CSR matrix (D*T, F).

    The array is unpacked a MB at a time: what is in memory is one such block and what fires.
    """
    rows, width = shape[0] * shape[1], shape[2]
    columns, values, counts = [], [], []
    with _reading(path, advice), zipfile.ZipFile(path) as archive, archive.open("activations.npy") as member:
        stored, is_fortran, dtype = _read_header(member)
        _expect(path, "shape (D, T, F)", shape, tuple(stored), advice)
        _expect(path, "dtype", "float32", str(dtype), advice)
        _expect(path, "order", "C", "Fortran" if is_fortran else "C", advice)
        step = max(1, BLOCK_BYTES // max(1, 4 * width))
        for start in range(0, rows, step):
            count = min(step, rows - start)
            size = 4 * count * width
            block = member.read(size)
            if len(block) != size:
                raise ValueError("its array ends too early")
            block = np.frombuffer(block, dtype)
            where = np.flatnonzero(block != 0)  # Ten times as fast as np.nonzero(block).
            row, column = np.divmod(where, width)
            columns.append(column.astype(np.int32))
            values.append(block[where])
            counts.append(np.bincount(row, minlength=count))
        _end(member)
    indptr = np.zeros(rows + 1, np.int64)
    if rows:
        np.cumsum(np.concatenate(counts), out=indptr[1:])
    columns = np.concatenate(columns) if columns else np.zeros(0, np.int32)
    values = np.concatenate(values).astype(np.float32, copy=False) if values else np.zeros(0, np.float32)
    matrix = scipy.sparse.csr_matrix((values, columns, indptr), shape=(rows, width))
    matrix.has_sorted_indices = True
    return matrix


def check_metadata(path: Path, metadata: dict, expected: dict, advice: str) -> None:
    """Fails where a file's `metadata` is not what `expected` has."""
    for key, value in expected.items():
        what, got = f"metadata[{key!r}]", metadata[key]
        if isinstance(got, np.ndarray):
            got = got.tolist()
        if isinstance(value, list) and isinstance(got, list):
            _expect(path, f"length of {what}", len(value), len(got), advice)
            for number, (ours, theirs) in enumerate(zip(value, got)):
                _expect(path, f"{what}[{number}]", ours, theirs, advice)
        else:
            _expect(path, what, value, got, advice)
