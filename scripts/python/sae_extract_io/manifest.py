"""`run.json`: one entry an invocation, made one description of all of one model's results."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath

from .checks import SITES, check_author, check_entry
from .errors import RunError, excerpt
from .opening import read_text
from .receipts import names_start, with_completed


@dataclass
class Manifest:
    """What a model's invocations have in common, and the union of what they were for."""

    model: str
    # What the files' names begin with, "sae__google_gemma-2-2b__".
    start: str
    # The entries that count, in order, as in run.json, with the authors that have been completed since.
    invocations: list[dict]
    # D and T.
    shape: tuple[int, int]
    # run.json's `settings` of the last invocation, with all layers and layer_types.
    settings: dict
    # run.json's entry of each hook's SAE, by layer and site.
    saes: dict[tuple[int, str], dict]
    # run.json's entry of each author, in the run's order.
    authors: dict[str, dict]
    # Authors that no invocation has completed.
    incomplete: list[str]

    def advice(self, hook: tuple[int, str] | None = None, purpose: str = "make it") -> str:
        """What to do about a file: the command of the last invocation that was for `hook`, or of the last."""
        entry = next((e for e in reversed(self.invocations) if hook is None or hook in _hooks(e)), self.invocations[-1])
        command = [word for word in entry.get("command", []) if word != "--overwrite"]
        # Whoever wrote run.json chose the words: another program's command is not advised.
        is_ours = bool(command) and PurePath(command[0]).name == "sae-extract"
        return f"run the same command again to {purpose}" + (f": {shlex.join(command)}" if is_ours else "")


def read_manifest(directory: Path, model: str | None) -> Manifest:
    """The manifest of `model`, or of the only model, in `directory`. Raises `RunError`."""
    path = directory / "run.json"
    entries = _entries(path)
    labels = list(dict.fromkeys(entry["model"]["label"] for entry in entries))
    if model is None:
        if len(labels) > 1:
            raise RunError(f"{path}: has runs of {len(labels)} models; give model= one of {_list(labels)}")
        model = labels[0]
    elif model not in labels:
        raise RunError(f"{path}: has no run of model {model!r}; it has {_list(labels)}")
    entries = _of_one_configuration([entry for entry in entries if entry["model"]["label"] == model])
    receipts: dict = {}
    entries = [with_completed(directory, entry, receipts) for entry in entries]
    for entry in entries:
        for author in entry["authors"]:
            check_author(path, author, entry["shape"])

    saes: dict[tuple[int, str], dict] = {}
    authors: dict[str, dict] = {}
    incomplete: dict[str, None] = {}
    for entry in entries:
        # A rank has entries of its own authors only.
        authors.update({author["author"]: author for author in entry["authors"]})
        incomplete.update(dict.fromkeys(entry["authors_not_complete"]))
        saes.update(_hooks(entry))
    by_place = sorted(saes, key=lambda hook: (hook[0], SITES.index(hook[1])))
    last = entries[-1]
    settings = dict(last["settings"])
    settings["layers"] = sorted({layer for layer, _ in saes})
    settings["layer_types"] = [site for site in SITES if any(site == other for _, other in saes)]
    return Manifest(
        model=model,
        start=names_start(last),
        invocations=entries,
        shape=(last["shape"]["documents"], last["shape"]["tokens"]),
        settings=settings,
        saes={hook: saes[hook] for hook in by_place},
        # Authors are in the order of their first documents in the corpus.
        authors=dict(sorted(authors.items(), key=lambda item: item[1]["source_lines"][:1])),
        incomplete=[author for author in incomplete if author not in authors],
    )


def missing_ranks(manifest: Manifest) -> str:
    """The ranks that have no entry, and of how many, by the last entry: "0, 2 of 4"; empty where some set of ranks is whole."""
    ranks: dict[int, set[int]] = {}
    for entry in manifest.invocations:
        ranks.setdefault(entry["world_size"], set()).update(entry["ranks"])
    if any(len(present) == size for size, present in ranks.items()):
        return ""
    size = manifest.invocations[-1]["world_size"]
    # There may be more than there is memory for.
    first = list(islice((rank for rank in range(size) if rank not in ranks[size]), 10))
    more = size - len(ranks[size]) - len(first)
    return ", ".join(map(str, first)) + (f" and {more} more" if more else "") + f" of {size}"


def _entries(path: Path) -> list[dict]:
    try:
        value = json.loads(read_text(path, "give the folder that was --save_dir of a run of sae-extract"))
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{path}: there is no such file; give the folder that was --save_dir of a run of sae-extract") from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    except (RecursionError, ValueError) as error:
        raise RunError(f"{path}: is damaged ({excerpt(error)}); run the same command again to make it") from None
    if not isinstance(value, dict) or value.get("format") != "sae-extract run manifest":
        raise RunError(f"{path}: is not a manifest of sae-extract; give the folder that was --save_dir of a run")
    if value.get("format_version") != 1:
        raise RunError(
            f"{path}: format_version: expected 1, got {excerpt(value.get('format_version'))}; install the sae_extract_io that "
            "came with the sae-extract that made it"
        )
    entries = value.get("runs")
    if not isinstance(entries, list) or not entries:
        raise RunError(f"{path}: has no runs; run the same command again")
    for entry in entries:
        check_entry(path, entry)
    return entries


def _hooks(entry: dict) -> dict[tuple[int, str], dict]:
    return {(sae["layer"], sae["site"]): sae for sae in entry["saes"]}


def _configuration(entry: dict):
    """What invocations must agree in to have results in one folder: sae-extract refuses others."""
    names = ["max_seq_len", "prefix", "feature_threshold", "activation_values", "batch_size"]
    return (
        [entry["settings"].get(name) for name in names],
        [entry.get("dtype"), entry.get("device"), entry.get("corpus", {}).get("accepted_sha256"), entry["shape"]],
        [(file["name"], file["identity"]) for file in entry["model"].get("files", [])],
    )


def _of_one_configuration(entries: list[dict]) -> list[dict]:
    # Entries of another configuration are of results that --overwrite has removed, or of a run that found another at
    # work when it began, and failed.
    last = next((e for e in reversed(entries) if e["authors"] or e.get("outcome") != "failed"), entries[-1])
    begun = [number for number, entry in enumerate(entries) if entry.get("overwrote")]
    entries = entries[begun[-1] if begun else 0 :]
    return [entry for entry in entries if _configuration(entry) == _configuration(last)]


def _list(labels: list[str]) -> str:
    return ", ".join(repr(label) for label in labels)
