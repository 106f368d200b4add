"""`load_run`, `Run` and `Author`: a run's results by author, layer and site."""

from __future__ import annotations

import os
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse

from . import files, frames
from .errors import RunError, UnfinishedRunWarning, printable
from .manifest import Manifest, missing_ranks, read_manifest

# If the arrays have more positions (D*T) than this, the size of a metric file is compared with run.json before memory
# is allocated.
POSITIONS = 1 << 24

METRICS = {"cross_entropy_loss": ".npy", "entropy_loss": ".npy", "tokens": ".json", "full_texts": ".json"}


class TokenIndex(NamedTuple):
    """The token of each row of a matrix. Each array is (rows,)."""

    # The author's name, dtype object.
    author: np.ndarray
    # int32: the index of the document among the author's documents, from 0.
    document: np.ndarray
    # int32: the index of the token in the document, from 0; `<bos>` is not counted.
    position: np.ndarray


class TokenTable(NamedTuple):
    """An author's tokens, one in each row. Each array is (tokens,)."""

    # int32: the index of the document, from 0.
    document: np.ndarray
    # int32: the index of the token in the document, from 0; `<bos>` is not counted.
    position: np.ndarray
    # The token's piece, a str, dtype object.
    token: np.ndarray


def load_run(directory: str | os.PathLike, model: str | None = None) -> Run:
    """Returns the run whose --save_dir was `directory`.

    `model` is the label in run.json, such as "google/gemma-2-2b". It is optional if the folder has results of one model. The
    results of several invocations (more layers, more sites, ranks) are one run. Only run.json and the names of the files are
    read. For a run that is at work or was killed, receipts in its `.sae-extract` folder are read too: they tell which authors
    are complete.

    Raises `RunError` if the folder has no run, or if `model` is needed. Warns with `UnfinishedRunWarning` if authors, ranks or
    files are missing; `Run.incomplete` and `Run.missing` list authors and files.
    """
    try:
        run = Run(Path(directory), read_manifest(Path(directory), model))
    except (AttributeError, IndexError, KeyError, MemoryError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise RunError(
            f"{Path(directory) / 'run.json'}: is not a valid manifest ({type(error).__name__}: {error}); "
            "run the same command again to make it"
        ) from error
    ranks = missing_ranks(run._manifest)
    problems = []
    if run.incomplete:
        problems.append(f"{len(run)} of {len(run) + len(run.incomplete)} authors are complete")
        problems.append(f"authors not complete: {_listed(run.incomplete)}")
    if ranks:
        problems.append(f"ranks {ranks} have not been run, and their authors are not known")
    names = [name for missing in run.missing.values() for name in missing]
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        problems.append(f"missing files: {names[0]}{more}, of {_listed(list(run.missing))}")
    if problems:
        message = f"{directory} is not complete: {'; '.join(problems)}; {run._manifest.advice(purpose='complete it')}"
        warnings.warn(UnfinishedRunWarning(message), stacklevel=2)
    return run


def _listed(names: list[str]) -> str:
    # Shows at most ten names, because thousands may be missing.
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


class Run:
    """A run's results. `run[author]` is an `Author`. Iteration gives the authors' names, in the order of the corpus."""

    def __init__(self, directory: Path, manifest: Manifest):
        self._directory = directory
        self._manifest = manifest
        self._authors = {name: Author(self, entry) for name, entry in manifest.authors.items()}

    @property
    def directory(self) -> Path:
        return self._directory

    @property
    def model(self) -> str:
        """The model's label, such as google/gemma-2-2b."""
        return self._manifest.model

    @property
    def authors(self) -> Mapping[str, Author]:
        """The authors by name, in the order of their first documents in the corpus."""
        return types.MappingProxyType(self._authors)

    @property
    def hooks(self) -> list[tuple[int, str]]:
        """Every tapped (layer, site), by layer, then by site in the order res, mlp, att."""
        return list(self._manifest.saes)

    @property
    def layers(self) -> list[int]:
        """All layers, ascending."""
        return self.settings["layers"]

    @property
    def sites(self) -> list[str]:
        """All tapped sites, in the order res, mlp, att."""
        return self.settings["layer_types"]

    @property
    def saes(self) -> Mapping[tuple[int, str], dict]:
        """The entry in run.json of the SAE of each (layer, site): sae_name, d_in, d_sae, path, …

        `mean_l0` is over the authors of the last invocation for that hook.
        """
        return types.MappingProxyType(self._manifest.saes)

    @property
    def settings(self) -> dict:
        """The settings of the last invocation in run.json, with the layers and layer_types of all invocations."""
        return self._manifest.settings

    @property
    def invocations(self) -> list[dict]:
        """run.json's entries of this run, the oldest first."""
        return self._manifest.invocations

    @property
    def shape(self) -> tuple[int, int]:
        """(D, T): the number of documents and of positions in the files' arrays."""
        return self._manifest.shape

    @property
    def incomplete(self) -> list[str]:
        """Names of the authors that are not complete. They are not in `authors`."""
        return self._manifest.incomplete

    @property
    def missing(self) -> dict[str, list[str]]:
        """The names of the missing files, by author. Authors with all files are not in the dictionary.

        A hook's features need one file, dense or sparse. If both are missing, the dense file is named.
        """
        try:
            present = set(os.listdir(self._directory))
        except OSError as error:
            raise RunError(f"{self._directory}: cannot be listed ({error.strerror})") from error
        missing = {name: author._missing(present) for name, author in self._authors.items()}
        return {name: names for name, names in missing.items() if names}

    def __getitem__(self, author: str) -> Author:
        try:
            return self._authors[author]
        except KeyError:
            if author in self.incomplete:
                message = f"author {author!r} is not complete; {self._manifest.advice(purpose='complete it')}"
            else:
                message = f"there is no author {author!r}; there are {', '.join(map(repr, self._authors)) or 'none'}"
            raise RunError(f"{self._directory}: {message}") from None

    def __contains__(self, author: object) -> bool:
        return author in self._authors

    def __iter__(self) -> Iterator[str]:
        return iter(self._authors)

    def __len__(self) -> int:
        return len(self._authors)

    def features(
        self, layer: int, site: str, authors: Iterable[str] | None = None
    ) -> tuple[scipy.sparse.csr_matrix, TokenIndex]:
        """Returns the features of all tokens of `authors` (None: all authors of the run), author after author.

        Returns a CSR matrix float32 (rows, F) with a row for each token without padding, and the author, document and position
        of each row. Raises as `Author.features`.
        """
        chosen = self._chosen(authors)
        width = self._width(layer, site)
        parts = [author.features(layer, site) for author in chosen]
        matrix = scipy.sparse.vstack(parts, format="csr") if parts else scipy.sparse.csr_matrix((0, width), dtype="f4")
        columns = list(zip(*(author.index for author in chosen))) or [[np.zeros(0, kind)] for kind in ("O", "i4", "i4")]
        return matrix, TokenIndex(*(np.concatenate(column) for column in columns))

    def rates(self, layer: int, site: str, authors: Iterable[str] | None = None) -> np.ndarray:
        """Returns the fraction of each author's tokens at which each feature fires: float64 (authors, F).

        Rows are in the order of `authors`, or of `run.authors` if it is None. Raw activations are counted too, not summed.
        Memory holds the features of one author at a time. Raises as `Author.features`.
        """
        chosen = self._chosen(authors)
        rates = np.zeros((len(chosen), self._width(layer, site)))
        for row, author in zip(rates, chosen):
            matrix = author.features(layer, site)
            row += np.bincount(matrix.indices, minlength=len(row)) / max(1, matrix.shape[0])
        return rates

    def to_pandas(self, authors: Iterable[str] | None = None):
        """Returns a data frame with a row for each token. See `Author.to_pandas`.

        Columns: author, document, position, token, cross_entropy, entropy. Raises `ImportError` if pandas is not installed.
        """
        return frames.tokens_frame(self._chosen(authors))

    def firings(self, layer: int, site: str, authors: Iterable[str] | None = None):
        """Returns a data frame with a row for each token and each feature that fires at it.

        Columns: author, document, position, feature, value. Raises `ImportError` if pandas is not installed, and as
        `Author.features`.
        """
        return frames.firings_frame(self._chosen(authors), layer, site)

    def _chosen(self, authors: Iterable[str] | None) -> list[Author]:
        if isinstance(authors, str):
            authors = [authors]
        return [self[name] for name in (self._authors if authors is None else authors)]

    def _width(self, layer: int, site: str) -> int:
        try:
            return self._manifest.saes[layer, site]["d_sae"]
        except (KeyError, TypeError):
            hooks = ", ".join(f"({layer}, {site!r})" for layer, site in self.hooks)
            raise RunError(
                f"{self._directory}: there is no layer {layer!r}, site {site!r}; the run has (layer, site) {hooks}. A "
                "later run of sae-extract may add layers and sites to the same folder"
            ) from None

    def __repr__(self) -> str:
        documents = sum(author.documents for author in self._authors.values())
        tokens = sum(author.token_count for author in self._authors.values())
        lines = [
            f"Run({str(self._directory)!r}, model={self.model!r})",
            f"{len(self)} authors, {documents} documents, {tokens} tokens: {_listed(list(self))}",
            f"layers {', '.join(map(str, self.layers))}; sites {', '.join(self.sites)}",
            f"{self.settings.get('activation_values')} activations above {self.settings.get('feature_threshold')}; "
            f"max_seq_len {self.settings.get('max_seq_len')}",
        ]
        if self.incomplete:
            lines.append(f"not complete: {_listed(self.incomplete)}")
        return "\n  ".join(printable(line) for line in lines)


class Author:
    """One author's results. Arrays, tokens and texts are read from the files when they are used.

    `documents` is the number of documents. `token_count` is the number of tokens of all documents without padding.
    """

    def __init__(self, run: Run, entry: dict):
        self._run = run
        self._entry = entry
        self.name: str = entry["author"]
        self.documents: int = entry["documents"]
        self.token_count: int = entry["tokens"]

    def __repr__(self) -> str:
        return f"Author({self.name!r}, {self.documents} documents, {self.token_count} tokens)"

    # Values from run.json

    @property
    def tokens_per_document(self) -> np.ndarray:
        """int32 (documents,): the number of tokens of each document, at most T."""
        return np.array(self._entry["tokens_per_row"], np.int32)

    @property
    def truncated(self) -> np.ndarray:
        """bool (documents,): whether each document was cut to max_seq_len tokens."""
        truncated = np.zeros(self.documents, bool)
        truncated[self._entry["truncated_rows"]] = True
        return truncated

    @property
    def source_lines(self) -> np.ndarray:
        """int64 (documents,): the line of the corpus, from 1, on which each document's record begins."""
        return np.array(self._entry["source_lines"], np.int64)

    @property
    def real(self) -> np.ndarray:
        """bool (documents, T): true at tokens, false at padding."""
        self._check_size()
        return np.arange(self._run.shape[1]) < self.tokens_per_document[:, np.newaxis]

    @property
    def index(self) -> TokenIndex:
        """The document and position of each of this author's tokens, document after document."""
        document, position = np.nonzero(self.real)
        names = np.full(len(document), self.name, object)
        return TokenIndex(names, document.astype(np.int32), position.astype(np.int32))

    # Tokens, texts, metrics

    @cached_property
    def tokens(self) -> list[list[str]]:
        """The pieces of each document, without padding."""
        shape = self.documents, self._run.shape[1]
        rows = files.read_pieces(self._path("tokens"), shape, self._run._manifest.advice())
        return [row[:count] for row, count in zip(rows, self._entry["tokens_per_row"])]

    @cached_property
    def texts(self) -> list[str]:
        """The whole text of each document, also if its tokens were cut to max_seq_len."""
        return files.read_texts(self._path("full_texts"), self.documents, self._run._manifest.advice())

    @property
    def token_table(self) -> TokenTable:
        """The document, position and piece of each token, document after document."""
        _, document, position = self.index
        pieces = np.empty(self.token_count, object)
        pieces[:] = [piece for document in self.tokens for piece in document]
        return TokenTable(document, position, pieces)

    @cached_property
    def cross_entropy(self) -> np.ma.MaskedArray:
        """float32 (documents, T), nats, masked at padding, read-only.

        `[d, j]` is -log p of token `j`, given all tokens before it (`<bos>` included). The file stores float16; the values are
        widened so that sums do not overflow.
        """
        return self._metric("cross_entropy_loss")

    @cached_property
    def entropy(self) -> np.ma.MaskedArray:
        """float32 (documents, T), nats, masked at padding, read-only.

        `[d, j]` is the entropy of the prediction made at token `j` for token `j + 1`. This is the value of
        `cross_entropy[d, j + 1]` that the model expects. The file stores float16.
        """
        return self._metric("entropy_loss")

    def flat(self, array) -> np.ndarray:
        """Returns `array` without padding: (tokens, …), document after document.

        `array` is (documents, T, …), or (D, T, …) as in the files. Row `i` of the result is the same token as row `i` of
        `features` and of `token_table`. Raises `RunError` for another shape.
        """
        values, (rows, columns) = np.ma.getdata(array), self._run.shape
        if values.shape[:2] not in ((self.documents, columns), (rows, columns)):
            raise RunError(
                f"expected an array of shape ({self.documents}, {columns}, …) or ({rows}, {columns}, …), got {values.shape}"
            )
        return values[: self.documents][self.real]

    # Features

    def features(self, layer: int, site: str, padded: bool = False) -> scipy.sparse.csr_matrix:
        """Returns the features that fire at each token: CSR, float32, 1 if a feature fires, or its activation in a raw run.

        The matrix is (tokens, F), with a row for each token, document after document, as in `flat(…)`, `index` and
        `token_table`. With `padded` it is (D*T, F) as in the file: token `t` of document `d` is row `d*T + t`, and rows of
        padding are empty.

        Reads the `.sparse.npz` file if it exists. Otherwise it reads the dense file and decompresses it in blocks, so the whole
        array is never in memory; an array of 5.9 GB takes about 20 seconds. The result is not cached: each call reads the file.

        Raises `RunError` if the run does not have this layer and site, if the file is missing or damaged, or if it does not
        agree with run.json.
        """
        self._check_size()
        rows, columns = self._run.shape
        width = self._run._width(layer, site)
        path, advice = self._features_path(layer, site), self._run._manifest.advice((layer, site))
        self._check_metadata(path, layer, site)
        if path.name.endswith(".sparse.npz"):
            matrix = files.read_sparse(path, (rows * columns, width), advice)
        else:
            matrix = files.read_dense(path, (rows, columns, width), advice)
        # Padding has no entries, so data and indices are the same with and without padding.
        real = np.zeros((rows, columns), bool)
        real[: self.documents] = self.real
        counts = np.diff(matrix.indptr)
        if counts[~real.ravel()].any():
            raise RunError(f"{path}: expected no features at padding, got some; {advice}")
        if padded:
            return matrix
        indptr = np.zeros(self.token_count + 1, matrix.indptr.dtype)
        np.cumsum(counts[real.ravel()], out=indptr[1:])
        return scipy.sparse.csr_matrix((matrix.data, matrix.indices, indptr), shape=(self.token_count, width))

    def metadata(self, layer: int, site: str) -> dict:
        """Returns the metadata of the features' file: author, docs_count, layer, tokens_per_doc (int32 (D,)), sae_name.

        The metadata are a pickle. It is read as plain data; code in it is never run. Raises as `features`.
        """
        self._run._width(layer, site)
        return self._check_metadata(self._features_path(layer, site), layer, site)

    # pandas

    def to_pandas(self):
        """Returns a data frame with a row for each token: author, document, position, token, cross_entropy, entropy.

        `cross_entropy` is that of the row's token. `entropy` is that of the prediction for the next token. Both are in nats.
        Raises `ImportError` if pandas is not installed.
        """
        return frames.tokens_frame([self])

    def firings(self, layer: int, site: str):
        """Returns a data frame with a row for each token and each feature that fires at it.

        Columns: author, document, position, feature, value. Raises `ImportError` if pandas is not installed, and as `features`.
        """
        return frames.firings_frame([self], layer, site)

    # Files

    @property
    def _start(self) -> str:
        return self._run._manifest.start

    def _name(self, kind: str) -> str:
        return f"{self._start}{kind}__{self._entry['name_in_files']}{METRICS[kind]}"

    def _path(self, kind: str) -> Path:
        return self._run.directory / self._name(kind)

    def _features_names(self, layer: int, site: str) -> tuple[str, str]:
        name = f"{self._start}{site}__activations__{self._entry['name_in_files']}__layer_{layer}"
        return name + ".sparse.npz", name + ".npz"

    def _features_path(self, layer: int, site: str) -> Path:
        sparse, dense = (self._run.directory / name for name in self._features_names(layer, site))
        if not os.path.exists(sparse) and not os.path.exists(dense):
            advice = self._run._manifest.advice((layer, site))
            raise RunError(f"{dense}: there is no such file, nor {sparse.name}; {advice}")
        return sparse if os.path.exists(sparse) else dense

    def _check_size(self) -> None:
        """Raises `RunError` if the arrays that run.json announces are larger than the cross-entropy file.

        Without this check, a few bytes in run.json could make this package allocate any amount of memory.
        """
        rows, columns = self._run.shape
        if rows * columns <= POSITIONS:
            return
        path, advice = self._path("cross_entropy_loss"), self._run._manifest.advice()
        try:
            size = os.stat(path).st_size
        except OSError as error:
            raise RunError(f"{path}: its size cannot be read ({error.strerror}); {advice}") from None
        if size < 2 * rows * columns:
            raise RunError(
                f"{path}: run.json announces ({rows}, {columns}) numbers, but its {size} bytes cannot hold them; {advice}"
            )

    def _missing(self, present: set[str]) -> list[str]:
        names = [self._name(kind) for kind in METRICS if self._name(kind) not in present]
        hooks = [self._features_names(layer, site) for layer, site in self._run.hooks]
        return names + [dense for sparse, dense in hooks if not present & {sparse, dense}]

    def _check_metadata(self, path: Path, layer: int, site: str) -> dict:
        advice = self._run._manifest.advice((layer, site))
        metadata = files.read_metadata(path, advice)
        expected = {
            "author": self.name,
            "docs_count": self.documents,
            "layer": layer,
            "tokens_per_doc": self._entry["tokens_per_row"],
            "sae_name": self._run.saes[layer, site]["sae_name"],
        }
        files.check_metadata(path, metadata, expected, self._run.shape[0], advice)
        return metadata

    def _metric(self, kind: str) -> np.ma.MaskedArray:
        path, advice = self._path(kind), self._run._manifest.advice()
        values = files.read_metric(path, self._run.shape, advice)
        real = np.zeros(values.shape, bool)
        real[: self.documents] = self.real
        if values[~real].any():
            raise RunError(f"{path}: expected 0 at padding, got other numbers; {advice}")
        values, mask = values[: self.documents], ~self.real
        # The arrays are cached, so callers must not change them.
        values.flags.writeable = mask.flags.writeable = False
        return np.ma.MaskedArray(values, mask)
