"""The exception and the warning of this package, and the escaping of their messages."""

from __future__ import annotations

import unicodedata

# Bidirectional marks, embeddings, overrides and isolates. They change the order in which a terminal shows characters.
DIRECTIONS = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def printable(text: str) -> str:
    """Returns `text` with an escape (`\\x1b`, `\\u202e`) for each control character, line break, bidi control and surrogate.

    A terminal would obey these characters, and UTF-8 cannot encode surrogates.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if ord(character) in DIRECTIONS or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        else character
        for character in text
    )


def excerpt(value: object) -> str:
    """Returns `value` as text for a message: at most its first 200 characters, and its length if it is longer."""
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text)} characters)"


class RunError(Exception):
    """A run or one of its files is missing, damaged or invalid.

    The message names the file, what was expected, and the next step.
    The message may contain names from files that other people made, so it is escaped to one line of printable text.
    """

    def __init__(self, message: str):
        super().__init__(printable(message))


class UnfinishedRunWarning(UserWarning):
    """Some authors or files of a run are missing. The others can be used. The message is one line of printable text."""

    def __init__(self, message: str):
        super().__init__(printable(message))
