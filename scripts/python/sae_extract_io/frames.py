"""Results as pandas data frames. pandas is imported only here, when a function makes a data frame."""

from __future__ import annotations

import numpy as np


def _pandas():
    try:
        import pandas
    except ImportError as error:
        raise ImportError("data frames need pandas, which is not installed: pip install pandas") from error
    return pandas


def tokens_frame(authors):
    """Returns a data frame with a row for each token of `authors`, author after author."""
    pandas = _pandas()
    parts = {name: [] for name in ("author", "document", "position", "token", "cross_entropy", "entropy")}
    for author in authors:
        table = author.token_table
        parts["author"].append(np.full(len(table.token), author.name, object))
        parts["document"].append(table.document)
        parts["position"].append(table.position)
        parts["token"].append(table.token)
        parts["cross_entropy"].append(author.flat(author.cross_entropy))
        parts["entropy"].append(author.flat(author.entropy))
    return pandas.DataFrame({name: _joined(arrays) for name, arrays in parts.items()})


def firings_frame(authors, layer, site):
    """Returns a data frame with a row for each token of `authors` and each feature that fires at it, author after author."""
    pandas = _pandas()
    parts = {name: [] for name in ("author", "document", "position", "feature", "value")}
    for author in authors:
        matrix, index = author.features(layer, site), author.index
        row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        parts["author"].append(np.full(matrix.nnz, author.name, object))
        parts["document"].append(index.document[row])
        parts["position"].append(index.position[row])
        parts["feature"].append(matrix.indices)
        parts["value"].append(matrix.data)
    return pandas.DataFrame({name: _joined(arrays) for name, arrays in parts.items()})


def _joined(arrays):
    return np.concatenate(arrays) if arrays else np.zeros(0)
