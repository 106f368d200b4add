"""Reads `run.json`, which has one entry for each invocation, and joins the entries of one model."""

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
    """The results of one model: the settings that its invocations share, and the union of their hooks and authors."""

    model: str
    # The beginning of the file names, such as "sae__google_gemma-2-2b__".
    start: str
    # The entries of run.json that belong to the present results, in order. They include the authors that receipts
    # report as complete.
    invocations: list[dict]
    # The arrays' number of documents and positions, (D, T).
    shape: tuple[int, int]
    # `settings` of the last invocation in run.json, with the layers and layer_types of all invocations.
    settings: dict
    # The entry in run.json of each hook's SAE, by layer and site.
    saes: dict[tuple[int, str], dict]
    # The entry in run.json of each author, in the run's order.
    authors: dict[str, dict]
    # Authors that no invocation has completed.
    incomplete: list[str]

    def advice(self, hook: tuple[int, str] | None = None, purpose: str = "make it") -> str:
        """Returns the next step for a message: to repeat the last invocation for `hook`, or the last one if `hook` is None."""
        entry = next((e for e in reversed(self.invocations) if hook is None or hook in _hooks(e)), self.invocations[-1])
        command = [word for word in entry.get("command", []) if word != "--overwrite"]
        # The command comes from run.json, which another person may have written. So only a command of sae-extract is
        # shown.
        is_ours = bool(command) and PurePath(command[0]).name == "sae-extract"
        return f"run the same command again to {purpose}" + (f": {shlex.join(command)}" if is_ours else "")


def read_manifest(directory: Path, model: str | None) -> Manifest:
    """Returns the manifest of `model` in `directory`, or of the only model if `model` is None. Raises `RunError`."""
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
        # The entry of a rank lists only that rank's authors, so the authors of all entries are joined.
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
        # Sorts the authors by their first documents in the corpus.
        authors=dict(sorted(authors.items(), key=lambda item: item[1]["source_lines"][:1])),
        incomplete=[author for author in incomplete if author not in authors],
    )


def missing_ranks(manifest: Manifest) -> str:
    """Returns the ranks of the last entry's world size that have no entry, as text: "0, 2 of 4".

    The text is empty if, for any world size, all ranks have entries.
    """
    ranks: dict[int, set[int]] = {}
    for entry in manifest.invocations:
        ranks.setdefault(entry["world_size"], set()).update(entry["ranks"])
    if any(len(present) == size for size, present in ranks.items()):
        return ""
    size = manifest.invocations[-1]["world_size"]
    # The world size may be so large that a list of all ranks does not fit into memory.
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
    """Returns the parts of `entry` in which all invocations for one folder agree: sae-extract refuses other invocations."""
    names = ["max_seq_len", "prefix", "feature_threshold", "activation_values", "batch_size"]
    return (
        [entry["settings"].get(name) for name in names],
        [entry.get("dtype"), entry.get("device"), entry.get("corpus", {}).get("accepted_sha256"), entry["shape"]],
        [(file["name"], file["identity"]) for file in entry["model"].get("files", [])],
    )


def _of_one_configuration(entries: list[dict]) -> list[dict]:
    # An entry of another configuration describes results that --overwrite has removed, or a run that failed because
    # another run was at work. So such entries are left out.
    last = next((e for e in reversed(entries) if e["authors"] or e.get("outcome") != "failed"), entries[-1])
    begun = [number for number, entry in enumerate(entries) if entry.get("overwrote")]
    entries = entries[begun[-1] if begun else 0 :]
    return [entry for entry in entries if _configuration(entry) == _configuration(last)]


def _list(labels: list[str]) -> str:
    return ", ".join(repr(label) for label in labels)
