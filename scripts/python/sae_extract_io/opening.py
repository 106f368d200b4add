"""Opening files in a folder that somebody else may have made: regular files only, and nothing that would be waited for."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from .errors import RunError

# Bytes read at a time, and of a dense array in memory at a time. Larger blocks fall out of the processor's cache.
BLOCK_BYTES = 1 << 20


def open_file(path: Path, advice: str) -> BinaryIO:
    """The regular file at `path`, or that a link there leads to, opened to be read.

    Raises `OSError` where it cannot be opened, and `RunError` where a folder, FIFO, socket or device is in its place: a FIFO
    would be waited for, and a device may have no end.
    """
    # Before it is opened: to open a device may do something already.
    _check_kind(path, os.stat(path).st_mode, advice)
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    try:
        # What is open now need not be what was there a moment ago.
        _check_kind(path, os.fstat(file.fileno()).st_mode, advice)
    except RunError:
        file.close()
        raise
    return file


def _check_kind(path: Path, mode: int, advice: str) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a FIFO (named pipe)",
        stat.S_ISSOCK: "a socket",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
    }
    kind = next((name for test, name in kinds.items() if test(mode)), "something else")
    raise RunError(f"{path}: is {kind}, not a file; remove it, then {advice}")


def read_text(path: Path, advice: str) -> str:
    """The UTF-8 text in `path`. Raises as `open_file` does, and `ValueError` where it is no text.

    It ends at the first NUL byte, which no text has: what a file announces with a hole is not read.
    """
    content = bytearray()
    with open_file(path, advice) as file:
        while block := file.read(BLOCK_BYTES):
            if b"\0" in block:
                raise ValueError(f"has a NUL byte, at {len(content) + block.index(0)}")
            content += block
    return content.decode("utf-8")


def check_is_folder(path: Path) -> None:
    """Fails where `path`, a folder that sae-extract makes itself, is a link. Raises `RunError`."""
    if path.is_symlink():
        raise RunError(
            f"{path}: is a symbolic link; sae-extract makes a folder there, and nothing is read where the link leads; remove it"
        )
