"""Folders that another person made: links, FIFOs and devices in place of files, and names with terminal commands."""

import contextlib
import io
import json
import os
import shutil
import socket
import sys
import warnings

import pytest
from conftest import DENSE, NAMES, READ_ALL, SPARSE, START, array_of, child, edited, fails, npy, rewrite, set_in, unfinished

import sae_extract_io
from sae_extract_io import RunError, UnfinishedRunWarning
from sae_extract_io.errors import printable

# Opening files


@pytest.mark.parametrize("name", ["run.json", *NAMES.values()])
def test_what_is_no_file_is_named_and_not_waited_for(copied, monkeypatch, name):
    directory = copied("both")
    path = directory / name
    path.unlink()

    def said(output):
        return "".join(line for line in output.splitlines(keepends=True) if str(path) in line)

    def here():
        output = io.StringIO()
        monkeypatch.setattr(sys, "argv", ["", str(directory)])
        with contextlib.redirect_stdout(output), warnings.catch_warnings():
            exec(READ_ALL, {})
        return said(output.getvalue())

    os.mkfifo(path)
    assert f"{path}: is a FIFO (named pipe), not a file; remove it, then " in said(child(READ_ALL, directory))
    path.unlink()
    path.symlink_to("/dev/zero")
    assert f"{path}: is a device, not a file; remove it, then " in said(child(READ_ALL, directory))
    path.unlink()
    path.mkdir()
    assert f"{path}: is a folder, not a file; remove it, then " in here()
    path.rmdir()
    path.symlink_to(path)
    assert f"{path}: cannot be read (Too many levels of symbolic links)" in here() or name == SPARSE
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(directory)  # The path of a socket must be short.
        server.bind("s")
        os.rename("s", path)
        assert f"{path}: is a socket, not a file; remove it, then " in here()


def test_a_fifo_that_takes_a_files_place_in_between(copied, monkeypatch):
    path = copied("both") / NAMES["texts"]
    author = sae_extract_io.load_run(path.parent)["harbour"]
    honest = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(os, "stat", lambda *_, **__: honest)
    fails(f"{path}: is a FIFO", lambda: author.texts)


def test_results_that_are_links_are_read(copied, tmp_path):
    directory = copied("both")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("run.json", *NAMES.values()):
        shutil.move(directory / name, elsewhere / name)
        (directory / name).symlink_to(elsewhere / name)
    (tmp_path / "link").symlink_to(directory)
    author = sae_extract_io.load_run(tmp_path / "link")["harbour"]
    assert author.features(0, "res").nnz and author.texts and author.tokens and author.entropy.any()


@pytest.mark.parametrize("suffix", [".receipts", ".receipt"])
def test_a_fifo_among_the_receipts(copied, suffix):
    directory = copied("both")
    path = unfinished(directory).with_name("0" + suffix)
    os.mkfifo(path)
    assert f"{path}: is a FIFO (named pipe), not a file; remove it, then run the same command again" in child(
        READ_ALL, directory
    )


@pytest.mark.parametrize("has_state", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_state_folder_that_is_a_link(copied, tmp_path, depth, has_state):
    directory = copied("both")
    path = unfinished(directory).parent
    if not has_state:
        edited(directory, lambda manifest: manifest["runs"][0].pop("state"))
    for _ in range(4 - depth):
        path = path.parent
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    if depth == 4 and not has_state:  # Without `state`, folders are listed, and links are not in the list.
        with pytest.warns(UnfinishedRunWarning):
            assert list(sae_extract_io.load_run(directory)) == []
    else:
        fails(f"{path}: is a symbolic link; sae-extract makes a folder there", sae_extract_io.load_run, directory)


@pytest.mark.parametrize("state", ["..", "/", ".sae-extract/../..", "/.sae-extract", "", "\0", ".sae-extract/\0", "a" * 5000])
def test_a_state_folder_elsewhere(copied, state):
    directory = copied("both")
    unfinished(directory)
    edited(directory, lambda manifest: manifest["runs"][0].update(state=state))
    with pytest.warns(UnfinishedRunWarning):
        assert list(sae_extract_io.load_run(directory)) == []


@pytest.mark.parametrize("name", ["x/../../../out", "../out", "/etc/passwd", "a\0b", "a\\b", 3, None, ["harbour"]])
def test_names_of_files_stay_in_the_folder(copied, tmp_path, name):
    directory = copied("both")
    (tmp_path / "out.json").write_text(json.dumps(["secret"] * 6))
    (directory / (START + "full_texts__x")).mkdir()

    def rename(manifest):
        manifest["runs"][0]["authors"][1]["name_in_files"] = name

    edited(directory, rename)
    fails("author 'harbour': has a name_in_files that cannot be in a file's name", sae_extract_io.load_run, directory)
    directory = shutil.copytree(directory, tmp_path / "second", dirs_exist_ok=True)
    edited(directory, lambda manifest: manifest["runs"][0]["model"].update(name_in_files=name))
    fails("a model whose name_in_files cannot be in a file's name", sae_extract_io.load_run, directory)


# Printing names


COMMANDS = "\x1b]0;title\x07\x1b[31m\r\n\x85\u2028\u202e\u2066\ud800"


def test_names_are_printed_printable(copied):
    directory = copied("both")
    run = sae_extract_io.load_run(directory)
    name = "harbour" + COMMANDS
    edited(directory, set_in("authors", 1, "author", name))
    edited(directory, set_in("model", "label", COMMANDS))
    edited(directory, set_in("command", ["/usr/bin/sae-extract", COMMANDS]))
    edited(directory, set_in("settings", "feature_threshold", COMMANDS))
    edited(directory, set_in("authors", 2, "author", "Brontë 勃朗特 👩‍🔬 میخواهم"))
    (directory / NAMES["tokens"]).unlink()
    said = []
    with pytest.warns(UnfinishedRunWarning) as caught:
        run = sae_extract_io.load_run(directory)
    said.append(str(caught[0].message))
    said += [*repr(run).split("\n  "), repr(run[name])]
    for call in (
        lambda: run["nobody"],
        lambda: run[name].tokens,
        lambda: run[name].features(0, "res"),
        lambda: sae_extract_io.load_run(directory, "nothing"),
    ):
        said.append(fails("", call))
    for line in said:
        assert not set(line) & set(COMMANDS) - set("]0;title[31m"), line
        line.encode()
    assert any(r"\x1b]0;title\x07\x1b[31m\r\n\x85\u2028\u202e\u2066\ud800" in line for line in said)
    # Letters of all scripts and joining characters are not escaped.
    assert any("Brontë 勃朗特 👩‍🔬 میخواهم" in line for line in said)
    assert printable("100 % \N{PILE OF POO}") == "100 % \N{PILE OF POO}"


def test_messages_have_an_end(copied):
    directory = copied("both")
    author = sae_extract_io.load_run(directory)["harbour"]
    array = array_of(directory / DENSE, "activations")
    rewrite(directory / SPARSE, format=npy("|S3", "()", b"abc"), shape=npy("<i4", f"({'1,' * 4000})"))
    assert len(fails("format: expected b'csr', got b'abc'", author.features, 0, "res")) < 1000
    (directory / SPARSE).unlink()
    rewrite(directory / DENSE, activations=npy("<f4", f"({'1,' * 4000})", array.tobytes()))
    assert len(fails("shape (D, T, F): expected (6, 359, 70), got (1, 1, ", author.features, 0, "res")) < 1000


def test_a_command_of_another_program_is_not_advised(copied):
    directory = copied("both")
    edited(directory, set_in("command", ["rm", "-rf", "/"]))
    (directory / NAMES["texts"]).unlink()
    with pytest.warns(UnfinishedRunWarning) as caught:
        run = sae_extract_io.load_run(directory)
    with pytest.raises(RunError) as info:
        run["harbour"].texts  # noqa: B018
    assert str(info.value).endswith("run the same command again to make it") and "rm" not in str(caught[0].message)
