"""Messages about missing, damaged and unfinished results name the file."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from conftest import DENSE, SPARSE, START, array_of, edited, fails, members, rewrite

import sae_extract_io
from sae_extract_io import UnfinishedRunWarning

# run.json


def test_no_run_json(tmp_path):
    for path in (tmp_path, tmp_path / "nothing", str(tmp_path)):
        assert str(path) in fails("run.json: there is no such file; give the folder", sae_extract_io.load_run, path)


def test_another_run_json(tmp_path, copied):
    path = tmp_path / "run.json"
    for text, message in (
        ("{", "is damaged"),
        ("[]", "is not a manifest"),
        ('{"format": "something"}', "is not a manifest"),
        ('{"format": "sae-extract run manifest", "format_version": 2, "runs": []}', "format_version: expected 1, got 2"),
        ('{"format": "sae-extract run manifest", "format_version": 1, "runs": []}', "has no runs"),
        ('{"format": "sae-extract run manifest", "format_version": 1, "runs": [{"model": {}}]}', "an entry lacks authors"),
    ):
        path.write_text(text)
        assert str(path) in fails(message, sae_extract_io.load_run, tmp_path)
    directory = copied("both")

    def wrong(manifest):
        manifest["runs"][0]["authors"][1]["tokens_per_row"][0] += 1

    edited(directory, wrong)
    fails("run.json: author 'harbour': documents, tokens, tokens_per_row", sae_extract_io.load_run, directory)


# Runs that have not ended


def test_a_layer_that_is_being_added(copied):
    directory = copied("grown")
    edited(directory, lambda manifest: manifest["runs"][1].update(outcome="unfinished", finished=None))
    gone = START + "att__activations__marsh-9__layer_3.npz"
    (directory / gone).unlink()
    with pytest.warns(UnfinishedRunWarning, match=f"missing files: {gone}, of marsh-9; run the same command again") as caught:
        run = sae_extract_io.load_run(directory)
    assert caught[0].filename == __file__
    assert run.missing == {"marsh-9": [gone]} and run.incomplete == []
    assert run["marsh-9"].features(1, "res").nnz and run["harbour"].features(3, "att").nnz
    message = fails(
        f"{gone}: there is no such file, nor {gone[:-4]}.sparse.npz; run the same command again to make it: ",
        run["marsh-9"].features,
        3,
        "att",
    )
    # The message must have the command of the invocation for this hook.
    assert "--layers 3" in message
    gone = START + "res__activations__marsh-9__layer_1.sparse.npz"
    (directory / gone).unlink()
    assert "--layers 1" in fails(f"nor {gone}; run the same", run["marsh-9"].features, 1, "res")


def test_authors_that_are_not_complete(copied):
    directory = copied("both")

    def unfinish(manifest):
        entry = manifest["runs"][0]
        entry.update(outcome="stopped", authors=entry["authors"][:3], authors_not_complete=["marsh-9", "lantérne"])
        entry["command"].append("--overwrite")

    edited(directory, unfinish)
    # Removes the receipts, which would report these authors as complete.
    shutil.rmtree(directory / ".sae-extract")
    with pytest.warns(UnfinishedRunWarning, match="authors not complete: marsh-9, lantérne; run the same command") as caught:
        run = sae_extract_io.load_run(directory)
    assert "--layers" in str(caught[0].message) and "--overwrite" not in str(caught[0].message)
    assert list(run) == ["orchard", "harbour", "quarry works"]
    assert run.incomplete == ["marsh-9", "lantérne"] and "not complete: marsh-9, lantérne" in repr(run)
    fails("author 'marsh-9' is not complete; run the same command again", run.__getitem__, "marsh-9")
    assert run.rates(0, "res").shape[0] == 3


def killed(directory, count):
    """Changes a run as if it was killed after `count` authors: run.json is as at the start, receipts have `count` authors."""

    def begin(manifest):
        entry = manifest["runs"][0]
        names = [author["author"] for author in entry["authors"]]
        entry.update(outcome="unfinished", authors=[], authors_not_complete=names, tokens=0)
        for sae in entry["saes"]:
            sae["mean_l0"] = 0

    edited(directory, begin)
    (path,) = directory.glob(".sae-extract/models/*/*/*.receipts")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:count]) + (lines[count][:50] if count < len(lines) else b""))
    return path


@pytest.mark.parametrize("form", ["dense", "sparse", "both", "raw"])
def test_authors_that_a_killed_run_has_completed(copied, load, form):
    directory = copied(form)
    whole = load(directory)
    killed(directory, 2)
    with pytest.warns(UnfinishedRunWarning, match="2 of [35] authors are complete; authors not complete: ") as caught:
        run = sae_extract_io.load_run(directory)
    assert len(caught) == 1
    assert list(run) == list(whole)[:2] and run.incomplete == list(whole)[2:]
    for name, author in run.authors.items():
        assert author._entry == whole[name]._entry
        layer, site = run.hooks[0]
        assert (author.features(layer, site) != whole[name].features(layer, site)).nnz == 0
    # mean_l0 must be that of the complete authors.
    layer, site = run.hooks[0]
    matrix, _ = run.features(layer, site)
    assert abs(run.saes[layer, site]["mean_l0"] - matrix.nnz / matrix.shape[0]) < 1e-9


def test_receipts_that_are_damaged_or_older(copied):
    directory = copied("both")
    path = killed(directory, 3)
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], lines[1][:99] + b"?" + lines[1][100:], lines[2], b""]))
    with pytest.warns(UnfinishedRunWarning):
        assert list(sae_extract_io.load_run(directory)) == ["orchard", "quarry works"]
    # Makes a receipt as older versions wrote it, in a folder that run.json does not name.
    path.unlink()
    (path.parent / "0123.receipt").write_bytes(lines[1][9:])
    edited(directory, lambda manifest: manifest["runs"][0].pop("state"))
    with pytest.warns(UnfinishedRunWarning):
        assert list(sae_extract_io.load_run(directory)) == ["harbour"]


def test_receipts_of_another_sae_tell_nothing(copied):
    directory = copied("dense")
    killed(directory, 2)
    edited(directory, lambda manifest: manifest["runs"][0]["saes"][0].update(identity="another"))
    with pytest.warns(UnfinishedRunWarning):
        assert list(sae_extract_io.load_run(directory)) == []


def test_a_later_invocation_completes_what_an_earlier_one_left(copied, load):
    directory = copied("both")

    def twice(manifest):
        stopped = dict(manifest["runs"][0], outcome="stopped", authors=[])
        stopped["authors_not_complete"] = [author["author"] for author in manifest["runs"][0]["authors"]]
        manifest["runs"].insert(0, stopped)

    edited(directory, twice)
    run = load(directory)
    assert len(run) == 5 and run.incomplete == [] and len(run.invocations) == 2


def test_results_that_overwrite_has_removed(copied, load):
    directory = copied("both")

    def older(manifest):
        entry = json.loads(json.dumps(manifest["runs"][0]))
        entry["settings"]["max_seq_len"] = 100
        entry["saes"][0]["layer"] = 17
        manifest["runs"].insert(0, entry)
        # Adds the entry of a run that failed because another run was at work.
        manifest["runs"].append(dict(entry, outcome="failed", authors=[]))

    edited(directory, older)
    run = load(directory)
    assert run.layers == [0, 3] and len(run.invocations) == 1 and run.settings["max_seq_len"] == 360


def test_a_rank_that_has_not_run(runs):
    with pytest.warns(UnfinishedRunWarning, match="ranks 1 of 2 have not been run"):
        run = sae_extract_io.load_run(runs / "half")
    assert list(run) == ["orchard", "quarry works", "lantérne"]


def test_ranks_that_another_number_of_ranks_made_unnecessary(copied, load):
    directory = copied("ranks")

    def third(manifest):
        manifest["runs"].append(dict(manifest["runs"][0], ranks=[2], world_size=3))

    edited(directory, third)
    assert len(load(directory)) == 5


# Files


@pytest.mark.parametrize(
    "kind, attribute",
    [
        ("cross_entropy_loss__harbour.npy", "cross_entropy"),
        ("entropy_loss__harbour.npy", "entropy"),
        ("tokens__harbour.json", "tokens"),
        ("full_texts__harbour.json", "texts"),
    ],
)
def test_a_missing_or_damaged_file(copied, kind, attribute):
    path = copied("both") / (START + kind)
    author = sae_extract_io.load_run(path.parent)["harbour"]

    def read():
        author.__dict__.pop(attribute, None)
        return getattr(author, attribute)

    whole = path.read_bytes()
    assert read() is not None
    for content in (b"", whole[:-9], b"\0" * 200, whole[:40]):
        path.write_bytes(content)
        message = fails(f"{path}: is damaged or not a file of sae-extract (", read)
        assert "run the same command again to make it: .build/release/sae-extract --sae_dir" in message
    path.unlink()
    fails(f"{path}: there is no such file; run the same command again to make it", read)
    with pytest.warns(UnfinishedRunWarning, match=f"missing files: {path.name}, of harbour"):
        assert sae_extract_io.load_run(path.parent).missing == {"harbour": [path.name]}


def test_metrics_tokens_and_texts_of_another_shape(copied):
    directory = copied("both")
    author = sae_extract_io.load_run(directory)["marsh-9"]
    path = directory / (START + "entropy_loss__marsh-9.npy")
    array = np.load(path)
    for other, message in (
        (array[1:], "shape (D, T): expected (6, 359), got (5, 359)"),
        (array.astype(np.float64), "dtype: expected float16, got float64"),
        (array + np.float16(1), "expected 0 at padding"),
    ):
        np.save(path, other)
        fails(f"{path}: {message}", lambda: author.entropy)
    path = directory / (START + "tokens__marsh-9.json")
    tokens = json.loads(path.read_text("utf-8"))
    for other, message in (
        (tokens[1:], "number of documents: expected 5, got 4"),
        ([*tokens[:4], tokens[4][:-1]], "document 4: expected 359 pieces, got 358"),
        ({}, "expected a JSON array, got dict"),
    ):
        path.write_text(json.dumps(other), "utf-8")
        fails(f"{path}: {message}", lambda: author.tokens)


@pytest.mark.parametrize("name", [DENSE, SPARSE])
def test_a_damaged_archive(copied, name):
    directory = copied("both")
    path = directory / name
    if name == DENSE:
        (directory / SPARSE).unlink()
    author = sae_extract_io.load_run(directory)["harbour"]
    whole = path.read_bytes()
    author.features(0, "res")
    contents = [b"", whole[: len(whole) // 2], b"\0" * len(whole)]
    for member in ("activations",) if name == DENSE else ("data", "indices", "indptr", "shape", "format"):
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(member + ".npy")
        # A local header has 30 bytes, then the name, then extra bytes. Its last two bytes are the number of extra
        # bytes.
        extra = int.from_bytes(whole[info.header_offset + 28 : info.header_offset + 30], "little")
        start = info.header_offset + 30 + len(info.filename) + extra
        for part in (0.3, 0.9):
            flipped = bytearray(whole)
            flipped[start + int(part * info.compress_size)] ^= 0x10
            contents.append(bytes(flipped))
    for content in contents:
        path.write_bytes(content)
        message = fails(f"{path}: is damaged or not a file of sae-extract (", author.features, 0, "res")
        assert "run the same command again to make it" in message


@pytest.mark.parametrize("name, member", [(DENSE, "activations"), (SPARSE, "data"), (SPARSE, "indices"), (SPARSE, "indptr")])
def test_a_checksum_that_does_not_agree(copied, name, member):
    """The CRC-32 of a member finds bytes that decompress without error but differ from the written bytes."""
    directory = copied("both")
    path = directory / name
    if name == DENSE:
        (directory / SPARSE).unlink()
    author = sae_extract_io.load_run(directory)["harbour"]
    with zipfile.ZipFile(path) as archive:
        crc = archive.getinfo(member + ".npy").CRC
    content = path.read_bytes()
    at = content.rindex(crc.to_bytes(4, "little"))  # The copy in the directory at the archive's end.
    path.write_bytes(content[:at] + (crc ^ 1).to_bytes(4, "little") + content[at + 4 :])
    fails("Bad CRC-32", author.features, 0, "res")


def test_dense_files_that_are_not_what_run_json_says(copied):
    directory = copied("both")
    (directory / SPARSE).unlink()
    path = directory / DENSE
    author = sae_extract_io.load_run(directory)["harbour"]
    array = array_of(path, "activations")
    at_padding = array.copy()
    at_padding[4, 300, 2] = 1
    header = members(path)["activations.npy"][:128]
    for other, message in (
        (array[:, :-1], "shape (D, T, F): expected (6, 359, 70), got (6, 358, 70)"),
        (array.astype(np.float64), "dtype: expected float32, got float64"),
        (np.asfortranarray(array), "order: expected C, got Fortran"),
        (at_padding, "expected no features at padding, got some"),
        (header + array.tobytes()[:-4], "ends too early"),
        (header + array.tobytes() + b"\0", "longer than its header says"),
        (header[:50], "is damaged"),
        (None, "There is no item named 'activations.npy'"),
    ):
        rewrite(path, activations=other)
        assert str(path) in fails(message, author.features, 0, "res")
        rewrite(path, activations=array)
    author.features(0, "res")


def test_sparse_files_that_are_not_what_run_json_says(copied):
    directory = copied("both")
    path = directory / SPARSE
    author = sae_extract_io.load_run(directory)["harbour"]
    good = path.read_bytes()
    indices, data, indptr = (array_of(path, name) for name in ("indices", "data", "indptr"))
    outside, negative, falling = indices.copy(), indices.copy(), indptr.copy()
    outside[5], negative[5], falling[7] = 70, -1, 10**6
    moved, length = indptr.copy(), author.tokens_per_document[0]
    moved[length] = moved[length - 1]  # Moves the entries of the first document's last token to the next row, which is padding.
    assert moved[length] < indptr[length]
    swapped, twice, zero = indices.copy(), indices.copy(), data.copy()
    swapped[:2], twice[1], zero[3] = indices[1::-1], indices[0], 0
    for changed, message in (
        ({"shape": np.array([6 * 359, 71])}, "shape (D*T, F): expected (2154, 70), got (2154, 71)"),
        ({"format": np.array(b"csc")}, "format: expected b'csr', got b'csc'"),
        ({"data": data.astype(np.float64)}, "dtype of data: expected float32, got float64"),
        ({"indices": outside}, "its indices are not all from 0 to 69"),
        ({"indices": negative}, "its indices are not all from 0 to 69"),
        ({"indices": swapped}, "its indices do not ascend within a row"),
        ({"indices": twice}, "its indices do not ascend within a row"),
        ({"indices": indices.astype(np.float32)}, "dtype of indices: expected int32 or int64, got float32"),
        ({"indptr": falling}, "its indptr does not ascend from 0"),
        ({"indptr": indptr + np.int32(1)}, "its indptr does not ascend from 0"),
        (
            {"indptr": np.append(indptr[:-1], 2**31).astype(np.int64)},
            "its indptr announces 2147483648 entries in 150780 places",
        ),
        ({"indptr": indptr[:-1]}, "shape of indptr: expected (2155,), got (2154,)"),
        ({"data": data[:-1]}, f"shape of data: expected ({len(data)},), got ({len(data) - 1},)"),
        ({"data": zero}, "it has entries that are 0"),
        ({"indptr": moved}, "expected no features at padding"),
        ({"data": None}, "There is no item named 'data.npy'"),
    ):
        path.write_bytes(good)
        rewrite(path, **changed)
        assert str(path) in fails(message, author.features, 0, "res")


def test_another_authors_file_under_this_name(copied):
    directory = copied("both")
    run = sae_extract_io.load_run(directory)
    shutil.copy(directory / SPARSE.replace("harbour", "orchard"), directory / SPARSE)
    fails("metadata['author']: expected harbour, got orchard", run["harbour"].features, 0, "res")
    shutil.copy(directory / SPARSE.replace("layer_0", "layer_3"), directory / SPARSE)
    fails("metadata['layer']: expected 0, got 3", run["harbour"].features, 0, "res")


def test_a_directory_in_a_files_place(copied):
    directory = copied("both")
    path = directory / (START + "entropy_loss__harbour.npy")
    path.unlink()
    path.mkdir()
    fails(
        f"{path}: is a folder, not a file; remove it, then run the same command again",
        lambda: sae_extract_io.load_run(directory)["harbour"].entropy,
    )
