"""Opens files in a folder that another person may have made: only regular files, and without waiting for a FIFO or device."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from .errors import RunError

# The number of bytes that are read at a time, also of a dense array. Larger blocks do not fit into the processor's
# cache.
BLOCK_BYTES = 1 << 20


def open_file(path: Path, advice: str) -> BinaryIO:
    """Opens the regular file at `path` for reading. Follows links.

    Raises `OSError` if the file cannot be opened, and `RunError` if it is a folder, FIFO, socket or device. Reading a FIFO
    could wait forever, and a device may have no end. `advice` ends the message.
    """
    # Checks the kind before opening, because opening a device may already have an effect.
    _check_kind(path, os.stat(path).st_mode, advice)
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    try:
        # Checks the kind again, because the file may have been replaced between the first check and the opening.
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
    """Returns the UTF-8 text in the file at `path`. Raises as `open_file`, and `ValueError` if the file is not UTF-8 text.

    Reading stops with `ValueError` at the first NUL byte, which text does not contain. So a hole in a sparse file is not read.
    """
    content = bytearray()
    with open_file(path, advice) as file:
        while block := file.read(BLOCK_BYTES):
            if b"\0" in block:
                raise ValueError(f"has a NUL byte, at {len(content) + block.index(0)}")
            content += block
    return content.decode("utf-8")


def check_is_folder(path: Path) -> None:
    """Raises `RunError` if `path`, a folder that sae-extract makes, is a link."""
    if path.is_symlink():
        raise RunError(
            f"{path}: is a symbolic link; sae-extract makes a folder there, so the link is not followed; remove the link"
        )
