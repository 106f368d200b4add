"""Dense files are decompressed block by block."""

import tracemalloc
import zipfile

import numpy as np
import pytest

from sae_extract_io import files


def test_a_large_array_is_never_in_memory(tmp_path):
    shape, step = (18, 359, 16384), 359
    random = np.random.default_rng(7)
    rows = shape[0] * shape[1]
    column = np.sort(random.integers(0, shape[2] // 40, (rows, 40)) + np.arange(40) * (shape[2] // 40))
    value = random.random((rows, 40), np.float32) + 1
    path = tmp_path / "large.npz"
    archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with archive, archive.open("activations.npy", "w", force_zip64=True) as member:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        for start in range(0, rows, step):
            block = np.zeros((step, shape[2]), np.float32)
            np.put_along_axis(block, column[start : start + step], value[start : start + step], axis=1)
            member.write(block.tobytes())
    assert zipfile.ZipFile(path).getinfo("activations.npy").file_size > 400e6

    tracemalloc.start()
    matrix = files.read_dense(path, shape, "")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (matrix.indices.reshape(rows, 40) == column).all()
    assert (matrix.data.reshape(rows, 40) == value).all()
    assert matrix.shape == (rows, shape[2]) and (np.diff(matrix.indptr) == 40).all()
    # The memory for blocks of 1 MiB, and for the nonzero elements (2 MB), which exist twice while they are joined.
    assert peak < 16e6


@pytest.mark.parametrize("block_bytes", [1, 40, 41, 4 * 10 * 7 * 2, 1 << 20])
def test_blocks_of_any_size_give_the_same(tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr(files, "BLOCK_BYTES", block_bytes)
    array = np.random.default_rng(3).random((3, 7, 10), np.float32)
    array[array < 0.8] = 0
    np.savez_compressed(tmp_path / "a.npz", activations=array)
    matrix = files.read_dense(tmp_path / "a.npz", array.shape, "")
    assert (matrix.toarray() == array.reshape(21, 10)).all() and matrix.nnz == (array != 0).sum()


def test_nothing_fires(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", activations=np.zeros((2, 3, 4), np.float32))
    assert files.read_dense(tmp_path / "a.npz", (2, 3, 4), "").nnz == 0
    np.savez_compressed(tmp_path / "b.npz", activations=np.zeros((0, 3, 4), np.float32))
    assert files.read_dense(tmp_path / "b.npz", (0, 3, 4), "").shape == (0, 4)
