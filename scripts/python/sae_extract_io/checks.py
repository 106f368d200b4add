"""Checks the values of `run.json` that this package computes with. The bounds are those of sae-extract."""

from __future__ import annotations

from pathlib import Path

from .errors import RunError

SITES = ("res", "mlp", "att")

# Exclusive upper bounds of sae-extract: layers of a model, positions of a document, documents, features of an SAE.
LAYERS, POSITIONS, DOCUMENTS, FEATURES = 1024, 1 << 24, 1 << 31, 1 << 31

NEEDED = {"model", "saes", "authors", "authors_not_complete", "settings", "shape", "ranks", "world_size"}


def check_entry(path: Path, entry) -> None:
    """Raises `RunError` if an entry of `runs` is invalid. `check_author` checks the entry's authors."""
    if not isinstance(entry, dict) or not set(entry) >= NEEDED:
        absent = ", ".join(sorted(NEEDED - set(entry))) if isinstance(entry, dict) else "everything"
        raise RunError(f"{path}: an entry lacks {absent}; run the same command again to make it")
    model, shape, saes = entry["model"], entry["shape"], entry["saes"]

    def need(holds: bool, what: str) -> None:
        if not holds:
            raise RunError(f"{path}: an entry has {what}; run the same command again to make it")

    need(isinstance(model, dict) and type(model.get("label")) is str, "a model without a label")
    need(is_name(model.get("name_in_files", "")), "a model whose name_in_files cannot be in a file's name")
    need(isinstance(shape, dict) and is_count(shape.get("documents"), DOCUMENTS), "a shape without documents")
    need(is_count(shape.get("tokens"), POSITIONS), "a shape without tokens, or with too many")
    need(isinstance(entry["settings"], dict), "settings that are not an object")
    need(is_number(entry.get("tokens", 0)), "tokens that are not a number")
    need(_are(entry["authors_not_complete"], str), "authors_not_complete that are not names")
    need(_are(entry["authors"], dict), "authors that are not objects")
    need(_are(entry.get("command", []), str), "a command that is not a list of words")
    need(type(entry.get("state", "")) is str, "a state that is not a path")
    need(is_count(entry["world_size"], 1 << 63) and entry["world_size"] > 0, "a world_size that is not a number of ranks")
    need(_are(entry["ranks"], int), "ranks that are not numbers")
    need(all(0 <= rank < entry["world_size"] for rank in entry["ranks"]), "ranks that are not below world_size")
    need(_are(saes, dict), "saes that are not objects")
    for sae in saes:
        need(is_count(sae.get("layer"), LAYERS) and sae.get("site") in SITES, "an SAE without a valid layer and site")
        need(is_count(sae.get("d_sae"), FEATURES) and sae["d_sae"] > 0, "an SAE without a valid number of features d_sae")
        need(type(sae.get("sae_name")) is str and type(sae.get("hook", "")) is str, "an SAE without a name")
        need(is_number(sae.get("mean_l0", 0)), "an SAE with a mean_l0 that is not a number")
    need(len({(sae["layer"], sae["site"]) for sae in saes}) == len(saes), "two SAEs of the same layer and site")


def check_author(path: Path, author: dict, shape: dict) -> None:
    """Raises `RunError` if the entry of an author is not consistent with itself and `shape`. `path` is for the message."""
    name, counts, lines, cut = (author.get(key) for key in ("author", "tokens_per_row", "source_lines", "truncated_rows"))
    if type(name) is not str or not is_name(author.get("name_in_files")):
        raise RunError(
            f"{path}: author {name!r}: has a name_in_files that cannot be in a file's name; "
            "run the same command again to make it"
        )
    if not (
        all(_are(numbers, int) for numbers in (counts, lines, cut))
        and is_count(author.get("documents"), DOCUMENTS)
        and author["documents"] == len(counts) == len(lines) <= shape["documents"]
        and all(0 <= count <= shape["tokens"] for count in counts)
        and type(author.get("tokens")) is int
        and author["tokens"] == sum(counts)
        and all(0 <= line < 1 << 63 for line in lines)
        and all(0 <= row < len(counts) for row in cut)
    ):
        raise RunError(
            f"{path}: author {name!r}: documents, tokens, tokens_per_row, source_lines and truncated_rows do not "
            f"agree with each other and the shape {shape}; run the same command again to make it"
        )


def is_count(value, limit: int) -> bool:
    """Returns whether `value` is an integer from 0 to below `limit`."""
    return type(value) is int and 0 <= value < limit


def is_number(value) -> bool:
    """Returns whether `value` is a JSON number."""
    return type(value) in (int, float)


def is_name(value) -> bool:
    """Returns whether `value` is a string without path separators and NUL, so that a file name with it stays in the folder."""
    return type(value) is str and not set(value) & {"/", "\\", "\0"}


def _are(values, kind: type) -> bool:
    return type(values) is list and all(type(value) is kind for value in values)
