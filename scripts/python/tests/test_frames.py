"""The data frames if pandas is installed, and the error if it is not."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import sae_extract_io

if importlib.util.find_spec("pandas") is None:

    def test_pandas_is_named_where_it_is_not_installed(runs):
        run = sae_extract_io.load_run(runs / "dense")
        author = run["harbour"]
        calls = (run.to_pandas, author.to_pandas, lambda: run.firings(1, "res"), lambda: author.firings(1, "res"))
        for call in calls:
            with pytest.raises(ImportError, match="pip install pandas"):
                call()
        # All other functions must work without pandas.
        assert author.features(1, "res").nnz and "pandas" not in sys.modules

else:

    def test_a_row_for_each_token(runs):
        run = sae_extract_io.load_run(runs / "names")
        frame = run.to_pandas()
        assert list(frame.columns) == ["author", "document", "position", "token", "cross_entropy", "entropy"]
        assert len(frame) == sum(author.token_count for author in run.authors.values())
        assert list(frame["author"].drop_duplicates()) == list(run)
        for name, author in run.authors.items():
            rows = frame[frame["author"] == name].reset_index(drop=True)
            assert rows.equals(author.to_pandas())
            assert list(rows["token"]) == [piece for document in author.tokens for piece in document]
            for row in (0, 17, len(rows) - 1):
                place = int(rows["document"][row]), int(rows["position"][row])
                assert rows["cross_entropy"][row] == author.cross_entropy[place]
                assert rows["entropy"][row] == author.entropy[place]
                assert rows["token"][row] == author.tokens[place[0]][place[1]]
            assert rows["cross_entropy"].mean() == pytest.approx(author._entry["mean_cross_entropy"], rel=1e-4)
        assert len(run.to_pandas(["a/b"])) == run["a/b"].token_count
        assert len(run.to_pandas([])) == 0

    def test_a_row_for_each_feature_that_fires(runs):
        run = sae_extract_io.load_run(runs / "raw")
        rows, columns = run.shape
        for name, author in run.authors.items():
            frame = author.firings(2, "mlp")
            assert list(frame.columns) == ["author", "document", "position", "feature", "value"]
            assert (frame["author"] == name).all()
            dense = np.zeros((rows, columns, run.saes[2, "mlp"]["d_sae"]), np.float32)
            dense[frame["document"], frame["position"], frame["feature"]] = frame["value"]
            assert (dense.reshape(rows * columns, -1) == author.features(2, "mlp", padded=True).toarray()).all()
            assert (frame["value"] > 0).all() and len(frame) == (dense > 0).sum()
        everything = run.firings(2, "mlp")
        assert len(everything) == run.features(2, "mlp")[0].nnz
        assert everything[everything["author"] == name].reset_index(drop=True).equals(frame)

    def test_pandas_is_imported_only_when_a_frame_is_asked_for(runs):
        rates = f"sae_extract_io.load_run({str(runs / 'raw')!r}).rates(2, 'res')"
        code = f"import sys, sae_extract_io; {rates}; print('pandas' in sys.modules)"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout == "False\n"
