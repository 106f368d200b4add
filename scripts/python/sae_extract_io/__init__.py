"""Reads a finished run of sae-extract.

    import sae_extract_io

    run = sae_extract_io.load_run("demo-output")
    harbour = run["harbour"]
    fires = harbour.features(2, "res")                # CSR (tokens, F), a row a token
    loss = harbour.flat(harbour.cross_entropy)        # (tokens,), nats, the same rows
    loss[fires[:, 7].toarray().ravel() > 0].mean()    # where feature 7 fires

Words used throughout: an author has `documents` documents; `tokens` is the number of its tokens that are not padding;
D is the largest number of documents an author of the run has, T = max_seq_len - 1 the positions of a document (`<bos>` is
in no file), F the number of features of an SAE. Nothing but `run.json` is read before it is asked for.
"""

from .errors import RunError, UnfinishedRunWarning
from .run import Author, Run, TokenIndex, TokenTable, load_run

__all__ = ["Author", "Run", "RunError", "TokenIndex", "TokenTable", "UnfinishedRunWarning", "load_run"]
__version__ = "0.1.0"
