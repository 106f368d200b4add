"""What this package raises and warns of."""

from __future__ import annotations

import unicodedata

# Marks and commands of the direction of writing: what stands behind them is shown in another place.
DIRECTIONS = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def printable(text: str) -> str:
    """`text` with an escape (`\\x1b`, `\\u202e`) for each character that a terminal would take for a command, a line break or a
    change of direction, and for each that has no UTF-8."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if ord(character) in DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        else character
        for character in text
    )


def excerpt(value: object) -> str:
    """`value` as text for a message, not longer than a line or two."""
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"


class RunError(Exception):
    """A run, or a file of it, is not as it should be. The message names the file, what was expected and what to do.

    Names in it come of files that others may have made: the message is one line of printable text.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


class UnfinishedRunWarning(UserWarning):
    """Files of a run are not there. What is there can be used. The message is one line of printable text."""

    def __init__(self, message: str):
        super().__init__(printable(message))
