"""False numbers in run.json, receipts and arrays: none makes the package use memory or time that the files do not justify."""

import json
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from conftest import NAMES, READ_ALL, SPARSE, START, child, edited, fails, members, npy, rewrite, set_in, unfinished

import sae_extract_io
from sae_extract_io import UnfinishedRunWarning, files

# Numbers in run.json


@pytest.mark.parametrize(
    "edit, message",
    [
        (set_in("model", "google/gemma-2-2b"), "a model without a label"),
        (set_in("model", "label", {}), "a model without a label"),
        (set_in("shape", [6, 359]), "a shape without documents"),
        (set_in("shape", "documents", 1 << 31), "a shape without documents"),
        (set_in("shape", "tokens", 1 << 24), "a shape without tokens, or with too many"),
        (set_in("shape", "tokens", 359.0), "a shape without tokens, or with too many"),
        (set_in("settings", []), "settings that are not an object"),
        (set_in("tokens", "a" * 1000), "tokens that are not a number"),
        (set_in("authors", {}), "authors that are not objects"),
        (set_in("authors_not_complete", [["a"]]), "authors_not_complete that are not names"),
        (set_in("command", "sae-extract"), "a command that is not a list of words"),
        (set_in("state", 3), "a state that is not a path"),
        (set_in("world_size", 0), "a world_size that is not a number of ranks"),
        (set_in("ranks", [1]), "ranks that are not below world_size"),
        (set_in("ranks", [True]), "ranks that are not numbers"),
        (set_in("saes", [3]), "saes that are not objects"),
        (set_in("saes", 0, "site", "../res"), "an SAE without a valid layer and site"),
        (set_in("saes", 0, "layer", "0"), "an SAE without a valid layer and site"),
        (set_in("saes", 0, "layer", 10**9), "an SAE without a valid layer and site"),
        (set_in("saes", 1, "layer", 3), "two SAEs of the same layer and site"),
        (set_in("saes", 0, "d_sae", 1 << 31), "an SAE without a valid number of features d_sae"),
        (set_in("saes", 0, "d_sae", 0), "an SAE without a valid number of features d_sae"),
        (set_in("saes", 0, "d_sae", -70), "an SAE without a valid number of features d_sae"),
        (set_in("saes", 0, "sae_name", None), "an SAE without a name"),
        (set_in("saes", 0, "mean_l0", "a" * 1000), "an SAE with a mean_l0 that is not a number"),
        (set_in("authors", 1, "author", 3), "author 3: has a name_in_files that"),
        (set_in("authors", 1, "tokens_per_row", 0, 134.0), "author 'harbour': documents, tokens, tokens_per_row"),
        (set_in("authors", 1, "tokens_per_row", 0, float("nan")), "author 'harbour': documents, tokens, tokens_per_row"),
        (set_in("authors", 1, "source_lines", 0, 1 << 63), "author 'harbour': documents, tokens, tokens_per_row"),
        (set_in("authors", 1, "truncated_rows", [6]), "author 'harbour': documents, tokens, tokens_per_row"),
        (set_in("authors", 1, "truncated_rows", [-1]), "author 'harbour': documents, tokens, tokens_per_row"),
        (set_in("authors", 1, "truncated_rows", [[0]]), "author 'harbour': documents, tokens, tokens_per_row"),
        (set_in("authors", 1, "documents", True), "author 'harbour': documents, tokens, tokens_per_row"),
    ],
)
def test_a_manifest_of_other_things(copied, edit, message):
    directory = copied("both")
    edited(directory, edit)
    said = fails(message, sae_extract_io.load_run, directory)
    assert said.startswith(f"{directory / 'run.json'}: ") and said.endswith("; run the same command again to make it")


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "9" * 1_000_000, "[" + "1" * 5000 + "]", "\ud800"])
def test_json_that_is_deep_or_long(copied, text):
    directory = copied("both")
    author = sae_extract_io.load_run(directory)["harbour"]
    for name, call in ((NAMES["texts"], lambda: author.texts), ("run.json", lambda: sae_extract_io.load_run(directory))):
        (directory / name).write_bytes(text.encode("utf-8", "surrogatepass"))
        assert str(directory / name) in fails(": ", call)


def test_holes_in_files_are_no_content(copied):
    """A hole takes no space in a file system. The package does not read it to its end."""
    directory = copied("both")
    receipts = unfinished(directory)
    for path, content in ((directory / NAMES["texts"], b"["), (receipts, receipts.read_bytes())):
        path.write_bytes(content)
        os.truncate(path, 6 << 30)
    said = child(READ_ALL, directory).splitlines()
    assert said[0] == "read" and "has a NUL byte, at 1)" in said[2]
    (directory / "run.json").write_bytes(b"{")
    os.truncate(directory / "run.json", 1 << 40)
    assert "run.json: is damaged (has a NUL byte, at 1)" in child(READ_ALL, directory)


def test_ranks_without_number(copied):
    directory = copied("half")
    edited(directory, set_in("world_size", 1 << 62))
    with pytest.warns(UnfinishedRunWarning, match=r"ranks 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and \d+ more of 4611686018427387904"):
        sae_extract_io.load_run(directory)


def test_announced_positions_that_no_file_has(copied):
    """Two numbers in run.json announce terabytes. The package first compares them with the size of the metric files."""
    directory = copied("both")

    def grow(manifest):
        entry = manifest["runs"][0]
        entry["shape"].update(documents=(1 << 31) - 1, tokens=(1 << 24) - 1)
        for author in entry["authors"]:
            author["tokens_per_row"] = [(1 << 24) - 1] * author["documents"]
            author["tokens"] = sum(author["tokens_per_row"])

    edited(directory, grow)
    said = child(READ_ALL, directory).splitlines()
    assert said[0] == "read" and len(said) == 10
    assert "expected 16777215 pieces, got 359" in said[1] and said[2] == "read"  # Texts do not depend on positions.
    assert all("expected (2147483647, 16777215), got (6, 359)" in line for line in said[3:5])
    assert all(
        "run.json announces (2147483647, 16777215) numbers, but its 4436 bytes cannot hold them" in line for line in said[5:]
    )
    (directory / NAMES["cross_entropy"]).unlink()
    assert f"{NAMES['cross_entropy']}: its size cannot be read (No such file" in child(READ_ALL, directory)


# Arrays


HUGE = 1 << 62


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"data": npy("<f4", f"({HUGE},)")}, "shape of data: expected ("),
        ({"indptr": npy("<i4", f"({HUGE}, {HUGE})")}, "shape of indptr: expected (2155,), got (4611686018427387904, 46"),
        ({"indptr": npy("<i4", "(2155,)")}, "8620 bytes were announced, 0 are there"),
        ({"data": npy("|O", "()", b"cos\nsystem\n.")}, "dtype of data: expected float32, got object"),
        ({"format": npy("|O", "()", b"cos\nsystem\n.")}, "dtype of format: expected |S3, got object"),
        ({"indices": npy("<U1000000000", "(1,)")}, "dtype of indices: expected int32 or int64, got <U1000000000"),
        (
            {"shape": npy("<i8", "(2,)", header="{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (2,), }")},
            "plain numbers",
        ),
        ({"shape": npy("<i8", "(2,)", header="__import__('os').system('id')")}, "plain numbers"),
        ({"shape": npy("<i8", "(2,)", header="(" * 9000)}, "plain numbers"),
        ({"shape": npy("<i8", "(2,)", header="{" + "'shape': (1," * 800)}, "plain numbers"),
        ({"shape": npy("<i8", "(2,)", header="{'shape': (" + "1," * 4900)}, "plain numbers"),
        ({"shape": npy("<i8", "(2,)", header=" " * (40 << 20))}, "an array's header has 41943041 bytes, more than 10000"),
        ({"shape": npy("<i8", "(-2,)")}, "plain numbers"),
        ({"shape": b"\x93NUMPY\2\0\xff\xff\xff\xff"}, "an array's header has 4294967295 bytes, more than 10000"),
        ({"shape": b"\x93NUMPY\7\0\xff\xff\xff\xff"}, "is of .npy version 7"),
        ({"shape": b"PK\3\4"}, "does not begin as .npy arrays do"),
    ],
)
def test_arrays_that_say_anything(copied, changed, message):
    directory = copied("both")
    rewrite(directory / SPARSE, **changed)
    said = child(READ_ALL, directory).splitlines()
    assert f"{directory / SPARSE}: " in said[8] and message in said[8]


def test_numbers_of_a_metric_that_are_not_there(copied):
    directory = copied("both")
    author = sae_extract_io.load_run(directory)["harbour"]
    path = directory / NAMES["entropy"]
    for content, message in (
        (npy("<f2", f"({HUGE}, {HUGE})"), "shape (D, T): expected (6, 359)"),
        (npy("<f2", "(6, 359)", b"ab"), "4308 bytes were announced, 2 are there"),
        (npy("<f2", "(6, 359)", bytes(4309)), "longer than its header says"),
        (npy("|O", "(6, 359)", b"cos\nsystem\n."), "dtype: expected float16, got object"),
        (npy(">f2", "(6, 359)", bytes(4308)), "dtype: expected float16, got >f2"),
    ):
        path.write_bytes(content)
        fails(message, lambda: author.entropy)


def test_a_wide_dense_array_is_read_in_parts(tmp_path, monkeypatch):
    """A row may be larger than the memory: only a block of it and the nonzero elements are in memory."""
    monkeypatch.setattr(files, "BLOCK_BYTES", 64)
    array = np.zeros((2, 3, 50), np.float32)
    array[0, 1, [0, 15, 16, 49]] = array[1, 2, 49] = 1
    np.savez_compressed(tmp_path / "a.npz", activations=array)
    assert (files.read_dense(tmp_path / "a.npz", array.shape, "").toarray() == array.reshape(6, 50)).all()
    width = 1 << 27
    archive = zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with archive, archive.open("activations.npy", "w", force_zip64=True) as member:
        member.write(npy("<f4", f"(1, 1, {width})"))
        for _ in range(width >> 21):
            member.write(bytes(8 << 20))
    code = f"""import pathlib, resource, sys
from sae_extract_io import files
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert files.read_dense(pathlib.Path(sys.argv[1]), (1, 1, {width}), "").nnz == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"""
    assert int(child(code, tmp_path / "b.npz")) < 100 << 10


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_numpy_would_not_have_compressed_so(copied, method):
    path = copied("both") / SPARSE
    content = members(path)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    fails(f"is compressed in a way that NumPy does not use, {method}", files.read_metadata, path, "")


def test_a_directory_of_an_archive_that_says_any_size(copied):
    path = copied("both") / SPARSE
    os.truncate(path, 4 << 30)  # A hole.
    # The end record of the directory: 0 entries, the directory's size and offset, no comment.
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0, 0, (4 << 30) - 1000, 0, 0)
    with open(path, "ab") as file:
        file.write(end)
    said = child(READ_ALL, path.parent).splitlines()[8]
    assert f"{path}: " in said and "its directory has 4294966296 bytes" in said


def test_receipts_of_anything(copied):
    directory = copied("both")
    path = unfinished(directory)
    whole = path.read_bytes().splitlines()
    receipt = json.loads(whole[0][9:])

    def sealed(value):
        text = json.dumps(value).encode()
        return b"%08x " % zlib.crc32(text) + text + b"\n"

    for value in (3, [], None, {}, {"author": []}, {"author": "harbour"}):
        path.write_bytes(sealed(value))
        with pytest.warns(UnfinishedRunWarning):
            assert list(sae_extract_io.load_run(directory)) == []
    for key in ("author", "files", "saes", "tokens", "lines", "truncatedRows", "firingCounts", "crossEntropySum"):
        for value in (None, "a", ["a"], {"a": "a"}):
            path.write_bytes(sealed({**receipt, key: value}))
            with pytest.warns(UnfinishedRunWarning):
                assert list(sae_extract_io.load_run(directory)) in ([], [receipt["author"]])
    path.write_bytes(b"%08x " % zlib.crc32(b"[" * 100_000) + b"[" * 100_000 + b"\n" + sealed(receipt))
    with pytest.warns(UnfinishedRunWarning):
        assert list(sae_extract_io.load_run(directory)) == [receipt["author"]]
    name = START + "tokens__x/../../../out.json"
    path.write_bytes(sealed({**receipt, "files": {name: {}, **receipt["files"]}}))
    with pytest.warns(UnfinishedRunWarning):
        assert list(sae_extract_io.load_run(directory)) == []
