"""Reads receipts in the state folder of a run: the authors that were completed after the run's entry in `run.json` was written.

Each process appends receipts to its own file, `*.receipts`. A receipt is one line: the CRC-32 of its JSON in eight
hexadecimal digits, a space, the JSON. Older versions of sae-extract wrote each receipt to its own file, `*.receipt`, which
has only the JSON. Damaged or incomplete receipts are ignored.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from pathlib import Path

from .checks import check_author
from .errors import RunError
from .opening import BLOCK_BYTES, check_is_folder, open_file

KINDS = {"dense": ["{}.npz"], "sparse": ["{}.sparse.npz"], "both": ["{}.npz", "{}.sparse.npz"]}
SHARED = ["entropy_loss__{}.npy", "cross_entropy_loss__{}.npy", "tokens__{}.json", "full_texts__{}.json"]


def names_start(entry: dict) -> str:
    """Returns the beginning of the names of an entry's files. Older versions did not encode the model's label."""
    model = entry["model"]
    return f"sae__{model.get('name_in_files', model['label'].replace('/', '_'))}__"


def with_completed(directory: Path, entry: dict, cache: dict) -> dict:
    """Returns `entry` of run.json, with the authors that receipts report as complete moved to its complete authors.

    `cache` keeps the receipts of each state folder for other entries. Raises `RunError` if a part of the state folder's path
    is a link, or if a receipts file is not a regular file.
    """
    folder = _state_folder(directory, entry) if entry["authors_not_complete"] else None
    if folder is None:
        return entry
    if folder not in cache:
        cache[folder] = _receipts(folder)
    waiting, receipts = set(entry["authors_not_complete"]), cache[folder]
    found = []
    for name in entry["authors_not_complete"]:
        # Invalid receipts raise one of these errors and are ignored.
        with contextlib.suppress(AttributeError, KeyError, OverflowError, RunError, TypeError, ValueError):
            author, counts = _author(entry, receipts.get(name, []))
            if author is not None:
                check_author(folder, author, entry["shape"])
                found.append((author, counts))
    if not found:
        return entry
    entry = dict(entry)
    before, more = entry.get("tokens", 0), sum(author["tokens"] for author, _ in found)
    entry["authors"] = entry["authors"] + [author for author, _ in found]
    waiting -= {author["author"] for author, _ in found}
    entry["authors_not_complete"] = [name for name in entry["authors_not_complete"] if name in waiting]
    entry["tokens"] = before + more
    entry["saes"] = [
        {
            **sae,
            "mean_l0": (before * sae.get("mean_l0", 0) + sum(c.get(sae["hook"], 0) for _, c in found)) / max(1, before + more),
        }
        for sae in entry["saes"]
    ]
    return entry


def _state_folder(directory: Path, entry: dict) -> Path | None:
    """Returns the folder of an entry's receipts; None if it is unknown. Raises `RunError` if a part of its path is a link."""
    if "state" in entry:
        parts = Path(entry["state"]).parts
        if parts[:1] != (".sae-extract",) or ".." in parts:
            return None
    else:
        # Older versions did not write the folder to the entry. If a label has several folders, the folder of this
        # entry is unknown.
        parts = (".sae-extract", "models", entry["model"]["label"].replace("/", "_"))
        if parts[-1] in (".", ".."):
            return None
    folder = directory
    for part in parts:
        folder /= part
        check_is_folder(folder)
    if "state" in entry:
        return folder
    try:
        folders = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
    except (OSError, ValueError):
        return None
    return folders[0] if len(folders) == 1 else None


def _receipts(folder: Path) -> dict[str, list[dict]]:
    """Returns all receipts in `folder`, by author. Raises `RunError` if a receipts file is not a regular file."""
    texts = []
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix == ".receipt":
                texts.append(_content(path))
            elif path.suffix == ".receipts":
                for line in _content(path).split(b"\n")[:-1]:
                    if line[:8] == b"%08x" % zlib.crc32(line[9:]):
                        texts.append(line[9:])
    except (OSError, ValueError):
        pass  # The run may have ended or been overwritten in the meantime, and the folder or file been removed.
    receipts: dict[str, list[dict]] = {}
    for text in texts:
        try:
            receipt = json.loads(text.decode("utf-8"))
            receipts.setdefault(receipt["author"], []).append(receipt)
        except (KeyError, RecursionError, TypeError, ValueError):
            continue
    return receipts


def _content(path: Path) -> bytes:
    """Returns the content of the file at `path` up to the first 1-MiB block of NUL bytes only.

    A hole in a sparse file may be larger than any disk.
    """
    content = bytearray()
    with open_file(path, "run the same command again") as file:
        while (block := file.read(BLOCK_BYTES)) and block != bytes(len(block)):
            content += block
    return bytes(content)


def _author(entry: dict, receipts: list[dict]) -> tuple[dict | None, dict]:
    """Returns the entry that run.json will have for the author of `receipts`, and the number of firings by hook.

    The entry is None if receipts do not name all of the author's files. Receipts of another SAE at the same hook do not count.
    """
    if not receipts:
        return None, {}
    start, counts, sealed = names_start(entry), {}, {}
    activations = re.compile(re.escape(start) + r"(res|mlp|att)__activations__.*__layer_(\d+)\.(?:sparse\.)?npz", re.DOTALL)
    for receipt in receipts:
        foreign = set()
        for sae in entry["saes"]:
            identity = f"{sae['sae_name']}, {sae.get('size')} bytes, identity {sae.get('identity')}"
            if receipt["saes"].get(sae["hook"], identity) == identity:
                counts.setdefault(sae["hook"], int(receipt["firingCounts"].get(sae["hook"], 0)))
            else:
                foreign.add((sae["site"], str(sae["layer"])))
        for name, seal in receipt["files"].items():
            of_hook = activations.fullmatch(name)
            if of_hook is None or of_hook.groups() not in foreign:
                sealed[name] = seal
    first, begin = receipts[0], f"{start}tokens__"
    encoded = next((name[len(begin) : -len(".json")] for name in sealed if name.startswith(begin)), None)
    kinds = KINDS.get(entry["settings"].get("storage_format", "dense"), [])
    names = [
        start + kind.format(f"{sae['site']}__activations__{encoded}__layer_{sae['layer']}")
        for sae in entry["saes"]
        for kind in kinds
    ] + [start + name.format(encoded) for name in SHARED]
    if encoded is None or not set(names) <= set(sealed):
        return None, {}
    tokens = sum(first["tokens"])
    return {
        "author": first["author"],
        "name_in_files": encoded,
        "documents": len(first["tokens"]),
        "tokens": tokens,
        "mean_cross_entropy": first["crossEntropySum"] / max(1, tokens),
        "mean_entropy": first["entropySum"] / max(1, tokens),
        "source_lines": first["lines"],
        "tokens_per_row": first["tokens"],
        "truncated_rows": first["truncatedRows"],
        "divided_batches": sorted({batch for receipt in receipts for batch in receipt["dividedBatches"]}),
        "files": [{"name": name, **sealed[name]} for name in names],
    }, counts
