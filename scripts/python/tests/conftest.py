"""Fixtures and helpers. scripts/checks/python makes the runs that the tests read, each in a folder of SAE_EXTRACT_RUNS."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

import sae_extract_io
from sae_extract_io import RunError

MODEL, OTHER_MODEL = "google/gemma-2-2b", "google/gemma-2-9b"
FIXTURES = Path(__file__).resolve().parents[3] / "Fixtures"

START = "sae__google_gemma-2-2b__"
DENSE = START + "res__activations__harbour__layer_0.npz"
SPARSE = START + "res__activations__harbour__layer_0.sparse.npz"


def pytest_sessionstart(session):
    if "SAE_EXTRACT_RUNS" not in os.environ:
        pytest.exit("SAE_EXTRACT_RUNS is not set: run scripts/checks/python, which makes the runs that these tests read", 4)


@pytest.fixture(scope="session")
def runs():
    return Path(os.environ["SAE_EXTRACT_RUNS"])


@pytest.fixture
def copied(runs, tmp_path):
    """Returns a function that copies a run to a temporary folder, where a test can damage it."""

    def copy(name):
        shutil.copytree(runs / name, tmp_path / name)
        return tmp_path / name

    return copy


@pytest.fixture
def load():
    """Returns `load_run` with every warning as an error, also if pytest runs without -W error."""

    def load_run(*arguments, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return sae_extract_io.load_run(*arguments, **options)

    return load_run


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, **changed):
    """Replaces members of a ZIP file by arrays or bytes. None removes a member."""
    content = members(path)
    for name, value in changed.items():
        if isinstance(value, np.ndarray):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, value)
            value = buffer.getvalue()
        content[name + ".npy"] = value
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in content.items():
            if value is not None:
                archive.writestr(name, value)


def array_of(path, name):
    with np.load(path) as file:
        return file[name]


def edited(directory, edit):
    path = directory / "run.json"
    manifest = json.loads(path.read_text("utf-8"))
    edit(manifest)
    path.write_text(json.dumps(manifest), "utf-8")


def fails(message, call, *arguments):
    with pytest.raises(RunError) as info:
        call(*arguments)
    assert message in str(info.value), str(info.value)
    return str(info.value)


def child(code, *arguments):
    """Runs `code` in a separate Python process and returns its output. The code may crash, hang or use up the memory."""
    bounded = f"import resource; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n{code}"
    command = [sys.executable, "-W", "error", "-c", bounded, *map(str, arguments)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def unfinished(directory):
    """Changes run.json as if the run were at work, so that receipts are read. Returns the path of the receipts."""

    def begin(manifest):
        entry = manifest["runs"][0]
        names = [author["author"] for author in entry["authors"]]
        entry.update(outcome="unfinished", authors=[], authors_not_complete=names, tokens=0)

    edited(directory, begin)
    (path,) = directory.glob(".sae-extract/models/*/*/*.receipts")
    return path


def set_in(*path):
    """Returns an edit of the first entry of run.json: `path` is the keys to a place, followed by the new value."""

    def edit(manifest):
        place = manifest["runs"][0]
        for key in path[:-2]:
            place = place[key]
        place[path[-2]] = path[-1]

    return edit


# Reads all results of one author, and prints "read" or the error for each.
READ_ALL = """import sys, warnings, sae_extract_io
warnings.simplefilter("ignore", sae_extract_io.UnfinishedRunWarning)
def tried(call):
    try:
        call()
        print("read")
    except sae_extract_io.RunError as error:
        print(error)
def load():
    global run
    run = sae_extract_io.load_run(sys.argv[1])
run = None
tried(load)
if run is not None and len(run):
    author = run["harbour"]
    for name in ("tokens", "texts", "cross_entropy", "entropy", "index", "real", "token_table"):
        tried(lambda: getattr(author, name))
    tried(lambda: author.features(0, "res"))
    tried(lambda: run.rates(0, "res"))
"""


def npy(descr, shape, data=b"", header=None):
    """Returns the bytes of a .npy array with any header and any data."""
    text = (header or f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}") + "\n"
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(text)) + text.encode() + data


# The files of an author, and one of its features files.
NAMES = {
    "tokens": START + "tokens__harbour.json",
    "texts": START + "full_texts__harbour.json",
    "cross_entropy": START + "cross_entropy_loss__harbour.npy",
    "entropy": START + "entropy_loss__harbour.npy",
    "features": SPARSE,
}
