"""Reads a finished run of sae-extract.

    import sae_extract_io

    run = sae_extract_io.load_run("demo-output")
    harbour = run["harbour"]
    fires = harbour.features(2, "res")                # CSR (tokens, F), a row for each token
    loss = harbour.flat(harbour.cross_entropy)        # (tokens,), nats, the same rows
    loss[fires[:, 7].toarray().ravel() > 0].mean()    # where feature 7 fires

Names in shapes: `documents` is the number of an author's documents, and `tokens` is the number of an author's tokens without
padding. D is the largest number of documents of an author of the run. T = max_seq_len - 1 is the number of positions of a
document; no file contains `<bos>`. F is the number of features of an SAE.

`load_run` reads `run.json` and, for a run that has not ended, its receipts. All other files are read when they are used.
"""

from .errors import RunError, UnfinishedRunWarning
from .run import Author, Run, TokenIndex, TokenTable, load_run

__all__ = ["Author", "Run", "RunError", "TokenIndex", "TokenTable", "UnfinishedRunWarning", "load_run"]
__version__ = "0.1.0"
