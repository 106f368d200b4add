"""The metadata members: pickles of NumPy and sae-extract are read, and nothing that a pickle names is called."""

import collections
import pickle
import struct

import numpy as np
import pytest
from conftest import DENSE, FIXTURES, SPARSE, child, fails, members, rewrite

import sae_extract_io
from sae_extract_io import RunError, files, pickles

KEYS = ["author", "docs_count", "layer", "tokens_per_doc", "sae_name"]


class Call:
    """`pickle.load` of this object calls `function`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def object_array(value):
    array = np.empty((), object)
    array[()] = value
    return array


def metadata(**changed):
    whole = {"author": "a", "docs_count": 2, "layer": 3, "tokens_per_doc": np.array([5, 6, 0], np.int32), "sae_name": "s"}
    return {**whole, **changed}


def header():
    text = "{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode()


# Parts of pickles, assembled by hand.


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def raw(value):
    return b"C" + bytes([len(value)]) + value


def element_type(code, order="|", names=b"N", fields=b"N", size=-1, flags=63):
    made = b"cnumpy\ndtype\n" + text(code) + b"\x89\x88\x87R"
    return (
        made + b"(K\3" + text(order) + b"N" + names + fields + b"J" + struct.pack("<i", size) + b"K\1K" + bytes([flags]) + b"tb"
    )


def array(kind, data, shape=b")"):
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R"
    return made + b"(K\1" + shape + kind + b"\x89" + data + b"tb"


STRUCTURED = element_type(
    "V8", names=text("f") + b"\x85", fields=b"}" + text("f") + element_type("O8") + b"K\0\x86s", size=8, flags=0
)

HOSTILE = {
    "numpy.ndarray over chosen bytes": b"cnumpy\nndarray\n()cnumpy\ndtype\nX\1\0\0\0O\x85RC\x08AAAAAAAAtR.",
    "a state of objects from chosen bytes": array(element_type("O8", flags=0), raw(b"AAAAAAAA")) + b".",
    "a structure with an object in it": array(STRUCTURED, raw(b"AAAAAAAA")) + b".",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_objects_over_bytes_of_the_files_choosing(copied, name):
    """With arguments from a file, NumPy's functions that make arrays would follow any address as a pointer to an object."""
    directory = copied("both")
    for path in (DENSE, SPARSE):
        rewrite(directory / path, metadata=header() + b"\x80\3" + HOSTILE[name])
    code = """import sys, sae_extract_io
try:
    sae_extract_io.load_run(sys.argv[1])["harbour"].features(0, "res")
except sae_extract_io.RunError as error:
    print(error)"""
    said = child(code, directory)
    assert f"{SPARSE}: " in said and "its metadata holds a pickle " in said and "run the same command again to make it" in said


def test_what_numpy_pickles(tmp_path):
    expected = metadata()
    path = tmp_path / "a.npz"
    np.savez(path, metadata=object_array(expected))
    for counts in (expected["tokens_per_doc"], np.array([5, 6, 0], np.int64), np.array([5, 6, 0], np.uint32), [5, 6, 0]):
        for protocol in (3, 4):
            body = pickle.dumps(object_array(metadata(tokens_per_doc=counts)), protocol)
            bodies = [body]
            if protocol == 3:  # Protocol 3 stores names as lines: test the names of NumPy 1 and NumPy 2.
                lines = body.replace(b"cnumpy._core.", b"cnumpy.core.")
                bodies = [lines, lines.replace(b"cnumpy.core.", b"cnumpy._core.")]
            for body in bodies:
                rewrite(path, metadata=header() + body)
                got = files.read_metadata(path, "")
                assert list(got) == KEYS and got["tokens_per_doc"].dtype == np.int32
                assert got["tokens_per_doc"].tolist() == [5, 6, 0]
                assert {**got, "tokens_per_doc": 0} == {**expected, "tokens_per_doc": 0}
    for author in ("", "Brontë 勃朗特", "long " * 100, "\n\0\x1b"):
        for number in (0, 255, 256, 65536, 2**31 - 1, 2**31, 2**62):
            np.savez(path, metadata=object_array(metadata(author=author, docs_count=number)))
            got = files.read_metadata(path, "")
            assert (got["author"], got["docs_count"]) == (author, number)
    many = np.arange(100_000, dtype=np.int32)
    np.savez_compressed(path, metadata=object_array(metadata(tokens_per_doc=many)))
    assert (files.read_metadata(path, "")["tokens_per_doc"] == many).all()


def test_metadata_of_the_reference_implementation_and_of_the_program(runs):
    paths = [*FIXTURES.glob("tiny/expected*/*activations*.npz"), *runs.glob("*/*activations*.npz")]
    assert len(paths) > 100
    for path in paths:
        ours = files.read_metadata(path, "")
        with np.load(path, allow_pickle=True) as file:  # Safe: this project made these files.
            theirs = file["metadata"].item()
        assert list(ours) == list(theirs) == KEYS
        for key in KEYS:
            assert type(ours[key]) is type(theirs[key])
            assert np.array_equal(ours[key], theirs[key])
        assert ours["tokens_per_doc"].dtype == np.int32


def test_nothing_that_a_pickle_names_is_called(copied, tmp_path):
    directory = copied("both")
    author = sae_extract_io.load_run(directory)["harbour"]
    mark = tmp_path / "mark"
    for value, name in (
        (Call(open, str(mark), "w"), "io.open"),
        ({"author": Call(eval, f"open({str(mark)!r}, 'w')")}, "builtins.eval"),
        (Call(getattr, np.ndarray, "tofile"), "builtins.getattr"),
        (collections.OrderedDict(), "collections.OrderedDict"),
        (metadata(docs_count=np.ma.masked_array([1])), "_mareconstruct"),
    ):
        for file in (DENSE, SPARSE):
            rewrite(directory / file, metadata=object_array(value))
        for call in (author.features, author.metadata):
            message = fails(name, call, 0, "res")
            assert "; only plain data is loaded. sae-extract and NumPy do not write this" in message
            assert SPARSE in message and "run the same command again to make it" in message
        assert not mark.exists()
    # The refusal is needed: `numpy.load` with allow_pickle executes the same pickle.
    rewrite(directory / SPARSE, metadata=object_array(Call(open, str(mark), "w")))
    with np.load(directory / SPARSE, allow_pickle=True) as file:
        file["metadata"].item().close()
    assert mark.exists()


REFUSED = {
    "an escape in a name": (b"c\x1b[31m\nname\n.", r"with \x1b[31m.name; only"),
    "a long name": (b"c" + b"x" * 1000 + b"\nname\n.", "… (1005 characters)"),
    "a name on the stack": (b"\x8c\2os\x8c\6system\x93.", "with os.system; only"),
    "a call of a text": (text("numpy.dtype") + b")R.", "with a call of what is no function"),
    "a call without a tuple": (b"cnumpy\ndtype\n" + text("O8") + b"R.", "with a call of what is no function"),
    "an object of a class": (b"cnumpy\nndarray\n)\x81.", "with opcode NEWOBJ"),
    "an old class": (b"(inumpy\nndarray\n.", "with opcode INST"),
    "an object elsewhere": (b"K\1Q.", "with opcode BINPERSID"),
    "a number in the registry": (b"\x82\1.", "with opcode EXT1"),
    "a buffer elsewhere": (b"\x97.", "with opcode NEXT_BUFFER"),
    "a set": (b"\x8f.", "with opcode EMPTY_SET"),
    "text in words": (b"S'abc'\n.", "with opcode STRING"),
    "a state for a dictionary": (b"}}b.", "with an object with a state"),
    "a state that is a dictionary": (b"cnumpy\ndtype\n" + text("i4") + b"\x85R}b.", "with an object with a state"),
    "two states": (element_type("i4", "<")[:-1] + b"b(K\3" + text("<") + b"tb.", "with an object with a state"),
    "a list twice": (b"]q\0h\0\x86.", "with a list or dictionary in two places"),
    "a dictionary in itself": (b"}q\0" + text("a") + b"h\0s.", "with a list or dictionary in two places"),
    "a key that is no text": (b"}K\1K\2s.", "with a key that is no text"),
    "a type with fields": (
        b"cnumpy\ndtype\n" + text("i8") + b"\x85R(K\3" + text("|") + b"N)NK\1K\1K\0tb.",
        "of NumPy's with fields",
    ),
    "a type of text": (element_type("U7", "<") + b".", "with NumPy's type 'U7'"),
    "a structured type": (element_type("V8") + b".", "with NumPy's type 'V8'"),
    "a type of many": (element_type("i4,O8") + b".", "with NumPy's type 'i4,O8'"),
    "an integer without end": (b"\x8a\xff" + b"\1" * 255 + b".", "with an integer of 255 bytes"),
    "many lists": (b"]" * 5000 + b"a" * 4999 + b".", "with more than 4096 lists"),
    "many tuples": (b"N" + b"\x85" * 5000 + b".", "with more than 4096 lists"),
}

DAMAGED = {
    "nothing": (b"", "it is cut short"),
    "no end": (b"N", "it is cut short"),
    "nothing on the stack": (b".", "it takes more than there is"),
    "a mark on the stack": (b"(.", "it takes more than there is"),
    "a tuple without a mark": (b"Nt.", "it takes more than there is"),
    "a mark kept": (b"(q\0h\0.", "it takes more than there is"),
    "more behind the end": (b"N.N.", "it does not end where it says"),
    "a text of 4 GB": (b"X\xff\xff\xff\xffabc.", "it is cut short"),
    "a text of 16 EB": (b"\x8d" + b"\xff" * 8 + b"abc.", "it is cut short"),
    "bytes of 8 EB": (b"\x8e" + b"\xff" * 7 + b"\x7fabc.", "it is cut short"),
    "a line without end": (b"cnumpy", "it is cut short"),
    "text that is no text": (b"X\2\0\0\0\xff\xfe.", "text that is not UTF-8"),
    "what was not kept": (b"h\7.", "it refers to what is not there"),
    "a list that is missing": (b"NNa.", "a list is missing"),
    "a dictionary that is missing": (b"NNNs.", "a dictionary is missing"),
    "a key without a value": (b"}(" + text("a") + b"u.", "a dictionary is missing"),
    "a type without a name": (b"cnumpy\ndtype\n)R.", "a type without a name"),
    "a type without an order": (element_type("i4", "?") + b".", "a type without a byte order"),
    "an array without a state": (array(b"", b"")[: -len(b"(K\1)\x89tb")] + b".", "an array without a state"),
    "an array in itself": (
        b"cnumpy.core.multiarray\n_reconstruct\n)Rq\0(K\1)" + element_type("O8") + b"\x89]h\0atb.",
        "an array without a state",
    ),
    "an array without a type": (array(b"N", raw(b"")) + b".", "an array without shape or type"),
    "an array of a negative size": (
        array(element_type("i4", "<"), raw(b""), b"J\xff\xff\xff\xff\x85") + b".",
        "without shape or type",
    ),
    "an array of fewer bytes": (array(element_type("i4", "<"), raw(b"abc")) + b".", "without as many bytes as its shape says"),
    "an array of 2^62 numbers": (
        array(element_type("i4", "<"), raw(b"abcd"), b"\x8a\x08\0\0\0\0\0\0\0\x40\x85") + b".",
        "without as many bytes as its shape says",
    ),
    "an array of bytes as objects": (array(element_type("O8"), raw(b"AAAAAAAA")) + b".", "without as many as its shape says"),
    "an array of fewer objects": (array(element_type("O8"), b"]", b"K\2\x85") + b".", "without as many as its shape says"),
    "no pickle": (b"\xff" * 20, "no opcode is 255"),
}


@pytest.mark.parametrize("kind, name", [("refused", n) for n in REFUSED] + [("damaged", n) for n in DAMAGED])
def test_pickles_that_are_not_plain_data(runs, tmp_path, kind, name):
    body, message = {"refused": REFUSED, "damaged": DAMAGED}[kind][name]
    path = tmp_path / "a.npz"
    np.savez(path, metadata=np.zeros(()))
    rewrite(path, metadata=header() + body)
    said = fails(message, files.read_metadata, path, "make it again")
    assert said.startswith(f"{path}: ") and "its metadata holds a pickle " in said and said.endswith("make it again")
    assert ("only plain data is loaded" in said) == (kind == "refused")
    assert said.isprintable()


@pytest.mark.parametrize(
    "value, message",
    [
        ("text", "not a dictionary of author"),
        ([1], "not a dictionary of author"),
        ({"author": "harbour"}, "not a dictionary of author"),
        (np.arange(3), "not a dictionary of author"),
        (None, "not a dictionary of author"),
        (metadata(author=3), "its metadata's author is not a text"),
        (metadata(author=(((),),)), "its metadata's author is not a text"),
        (metadata(layer=True), "its metadata's layer is not an integer"),
        (metadata(docs_count=2.0), "its metadata's docs_count is not an integer"),
        (metadata(docs_count=np.int64(2)), "its metadata's docs_count is not an integer"),
        (metadata(sae_name=None), "its metadata's sae_name is not a text"),
        (metadata(tokens_per_doc=3), "its metadata's tokens_per_doc is not an array of integers"),
        (metadata(tokens_per_doc=[1, "2"]), "its metadata's tokens_per_doc is not an array of integers"),
        (metadata(tokens_per_doc=np.zeros((2, 2), np.int32)), "its metadata's tokens_per_doc is not an array of integers"),
        (metadata(tokens_per_doc=np.zeros(2, ">i4")), "its metadata's tokens_per_doc is not an array of integers"),
        (metadata(tokens_per_doc=np.zeros(2, np.float32)), "its metadata's tokens_per_doc is not an array of integers"),
        (metadata(tokens_per_doc=np.array([1, None])), "its metadata's tokens_per_doc is not an array of integers"),
        (metadata(tokens_per_doc=np.array([-1], np.int32)), "its metadata's tokens_per_doc has numbers that are not counts"),
        (metadata(tokens_per_doc=np.array([1 << 31])), "its metadata's tokens_per_doc has numbers that are not counts"),
        (metadata(tokens_per_doc=[1 << 62]), "its metadata's tokens_per_doc has numbers that are not counts"),
    ],
)
def test_metadata_that_is_something_else(tmp_path, value, message):
    path = tmp_path / "a.npz"
    np.savez(path, metadata=object_array(value))
    assert "a.npz: is damaged or not a file of sae-extract (" in fails(message, files.read_metadata, path, "")


def test_metadata_that_is_no_object(copied):
    path = copied("both") / SPARSE
    whole = members(path)["metadata.npy"]
    for wrong in (whole[:128], whole[:-5], whole + b"x", b""):
        rewrite(path, metadata=wrong)
        fails("is damaged", files.read_metadata, path, "")
    with pytest.raises(RunError, match=r"its metadata is float64 \(3,\), not one object"):
        rewrite(path, metadata=np.zeros(3))
        files.read_metadata(path, "")
    rewrite(path, metadata=whole)
    assert files.read_metadata(path, "")["author"] == "harbour"


def test_metadata_that_is_too_large(runs, monkeypatch):
    monkeypatch.setattr(files, "METADATA_BYTES", 100)
    fails("its metadata has more than", files.read_metadata, runs / "both" / SPARSE, "")


@pytest.mark.parametrize(
    "body, message",
    [
        (b"]" * (60 << 20), "more than 1048576 values"),
        (b"(" + b"N" * (60 << 20), "more than 1048576 values"),
        (b"(((" * (20 << 20), "more than 1048576 values"),
        (b"N" + b"\x94" * (60 << 20), "more than 1048576 values"),
        (b"]" + b"]a" * (30 << 20), "more than 4096 lists"),
        (b"](" + b"Ne(" * (20 << 20), "more than 4096 lists"),
        (b"N" + b"".join(b"q%ch%ch%c\x86" % (i, i, i) for i in range(250)), "it is cut short"),
        (b"X\xff\xff\xff\x7f" + b"a" * (60 << 20), "it is cut short"),
        (b"}" * 9 + b"\0" * (100 << 20), "its metadata has more than 64 MB"),
    ],
)
def test_short_pickles_that_ask_for_much(tmp_path, body, message):
    """Each pickle has about 60 kB in its file. Memory: the bytes that are read (at most 64 MB, twice) and a million values."""
    np.savez(tmp_path / "a.npz", metadata=np.zeros(()))
    rewrite(tmp_path / "a.npz", metadata=header() + b"\x80\4" + body)
    assert (tmp_path / "a.npz").stat().st_size < 1 << 18
    code = """import pathlib, resource, sys
from sae_extract_io import RunError, files
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    files.read_metadata(pathlib.Path(sys.argv[1]), "")
except RunError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)"""
    kilobytes, said = child(code, tmp_path / "a.npz").split(maxsplit=1)
    assert message in said
    assert int(kilobytes) < 400 << 10


def test_random_changes_are_read_or_named(runs):
    """Random changes of bytes give plain data, `PickleError` or `RefusedPickle`, never another error."""
    body = members(runs / "both" / SPARSE)["metadata.npy"][128:]
    assert isinstance(pickles.load(body), pickles.Array)
    chance = np.random.default_rng(5)
    outcomes = collections.Counter()
    for _ in range(20_000):
        changed = bytearray(body)
        for place in chance.integers(0, len(body), chance.integers(1, 4)):
            changed[place] = chance.integers(0, 256)
        if chance.random() < 0.2:
            cut = chance.integers(0, len(body), 2)
            changed[min(cut) : max(cut)] = b""
        try:
            pickles.load(bytes(changed))
            outcomes["read"] += 1
        except pickles.PickleError as error:
            outcomes[type(error).__name__] += 1
    assert len(outcomes) == 3, outcomes
