"""Compares `Run` and `Author` with run.json and with the files as NumPy and SciPy read them."""

import json

import numpy as np
import pytest
import scipy.sparse
from conftest import FIXTURES, MODEL, OTHER_MODEL

from sae_extract_io import RunError

# The model, the layers and the sites of each folder's run.
LAYERS, SITES = [0, 1, 2, 3], ["res", "mlp", "att"]
RUNS = {
    "dense": (MODEL, LAYERS, SITES),
    "sparse": (MODEL, LAYERS, SITES),
    "both": (MODEL, [0, 3], ["res", "att"]),
    "raw": (OTHER_MODEL, [2], SITES),
    "names": (MODEL, [1], ["mlp"]),
    "ranks": (MODEL, [0], ["res"]),
}


def entries(directory, model):
    runs = json.loads((directory / "run.json").read_text("utf-8"))["runs"]
    return [entry for entry in runs if entry["model"]["label"] == model]


def loaded(directory, model, layer, site, name, rows):
    """Returns a hook's array (D*T, F), read with NumPy and SciPy only."""
    path = directory / f"sae__{model.replace('/', '_')}__{site}__activations__{name}__layer_{layer}.npz"
    sparse = path.with_name(path.name[: -len(".npz")] + ".sparse.npz")
    arrays = []
    if path.exists():
        with np.load(path) as file:
            arrays.append(file["activations"].reshape(rows, -1))
    if sparse.exists():
        arrays.append(scipy.sparse.load_npz(sparse).toarray())
    assert arrays and all((array == arrays[0]).all() for array in arrays)
    return arrays[0]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_what_run_json_says(runs, load, name):
    model, layers, sites = RUNS[name]
    run = load(runs / name)
    everything = entries(runs / name, model)
    assert (run.model, run.layers, run.sites) == (model, layers, sites)
    assert run.hooks == [(layer, site) for layer in layers for site in sites]
    assert run.incomplete == [] and run.missing == {}
    assert run.shape == (everything[0]["shape"]["documents"], everything[0]["shape"]["tokens"])
    assert run.invocations == everything
    for sae in everything[-1]["saes"]:
        assert run.saes[sae["layer"], sae["site"]] == sae
    authors = {author["author"]: author for entry in everything for author in entry["authors"]}
    assert set(run) == set(run.authors) == set(authors) and len(run) == len(authors)
    for author, entry in authors.items():
        assert author in run and run[author] is run.authors[author]
        assert (run[author].name, run[author].documents) == (author, entry["documents"])
        assert run[author].token_count == entry["tokens"]
        assert run[author].tokens_per_document.tolist() == entry["tokens_per_row"]
        assert run[author].source_lines.tolist() == entry["source_lines"]
        assert np.flatnonzero(run[author].truncated).tolist() == entry["truncated_rows"]
        assert len(run[author].truncated) == entry["documents"]
    assert repr(model) in repr(run) and str(run.layers[0]) in repr(run)
    assert repr(run[author]) == f"Author({author!r}, {entry['documents']} documents, {entry['tokens']} tokens)"


@pytest.mark.parametrize("name", RUNS)
def test_features_are_the_files_rows(runs, load, name):
    model = RUNS[name][0]
    run = load(runs / name)
    rows, columns = run.shape
    for author in run.authors.values():
        counts = author.tokens_per_document
        for layer, site in run.hooks:
            array = loaded(runs / name, model, layer, site, author._entry["name_in_files"], rows * columns)
            assert array.any()
            padded = author.features(layer, site, padded=True)
            assert padded.format == "csr" and padded.dtype == np.float32 and padded.has_sorted_indices
            assert (padded.toarray() == array).all()
            real = author.features(layer, site)
            assert real.format == "csr" and real.dtype == np.float32 and real.indices.dtype == np.int32
            by_hand = [array[d * columns + t] for d, count in enumerate(counts) for t in range(count)]
            assert (real.toarray() == np.array(by_hand)).all()
            assert real.shape == (author.token_count, run.saes[layer, site]["d_sae"])
            metadata = author.metadata(layer, site)
            assert metadata["author"] == author.name and metadata["layer"] == layer
            assert metadata["tokens_per_doc"].dtype == np.int32 and len(metadata["tokens_per_doc"]) == rows


@pytest.mark.parametrize("name", RUNS)
def test_metrics_tokens_and_texts_are_the_files(runs, load, name):
    model = RUNS[name][0]
    run = load(runs / name)
    start = f"sae__{model.replace('/', '_')}__"
    for author in run.authors.values():
        file, counts = author._entry["name_in_files"], author.tokens_per_document
        for kind, values in (("cross_entropy", author.cross_entropy), ("entropy", author.entropy)):
            array = np.load(runs / name / f"{start}{kind}_loss__{file}.npy")
            assert array.dtype == np.float16 and values.dtype == np.float32
            assert values.shape == (author.documents, run.shape[1])
            assert (values.data == array[: author.documents]).all()
            assert (~values.mask).sum(axis=1).tolist() == counts.tolist()
            by_hand = np.concatenate([array[d, :count] for d, count in enumerate(counts)])
            assert type(author.flat(values)) is np.ndarray
            assert (author.flat(values) == by_hand).all() and (author.flat(array) == by_hand).all()
            # run.json has the mean of the float16 values.
            assert values.mean(dtype=np.float64) == pytest.approx(author._entry[f"mean_{kind}"], rel=1e-4)
        tokens = json.loads((runs / name / f"{start}tokens__{file}.json").read_text("utf-8"))
        assert author.tokens == [row[:count] for row, count in zip(tokens, counts)]
        assert all(piece == "<pad>" for row, count in zip(tokens, counts) for piece in row[count:])
        assert author.texts == json.loads((runs / name / f"{start}full_texts__{file}.json").read_text("utf-8"))
        table = author.token_table
        assert len(table.token) == len(table.document) == len(table.position) == author.token_count
        assert all(author.tokens[d][t] == piece for d, t, piece in zip(*table))
        assert (author.index.document == table.document).all() and (author.index.position == table.position).all()
        assert table.document.tolist() == np.repeat(np.arange(author.documents), counts).tolist()


def test_what_the_reference_implementation_got(runs, load):
    for name, expected, count in (("dense", "expected", 5), ("sparse", "expected", 5), ("models", "expected-alt", 3)):
        run = load(runs / name, model=OTHER_MODEL if name == "models" else MODEL)
        folder, start = FIXTURES / "tiny" / expected, f"sae__{run.model.replace('/', '_')}__"
        assert len(run) == count
        flips = bits = 0
        for author in run.authors.values():
            for kind in ("cross_entropy", "entropy"):
                reference = np.load(folder / f"{start}{kind}_loss__{author.name}.npy")
                difference = author.flat(getattr(author, kind)) - author.flat(reference).astype(np.float32)
                assert abs(difference).max() < 0.02
            assert author.texts == json.loads((folder / f"{start}full_texts__{author.name}.json").read_text("utf-8"))
            tokens = json.loads((folder / f"{start}tokens__{author.name}.json").read_text("utf-8"))
            with np.load(folder / f"{start}res__activations__{author.name}__layer_2.npz", allow_pickle=True) as file:
                counts = file["metadata"].item()["tokens_per_doc"]
            assert author.tokens == [row[:count] for row, count in zip(tokens, counts)]
            for layer, site in run.hooks:
                with np.load(folder / f"{start}{site}__activations__{author.name}__layer_{layer}.npz") as file:
                    reference = author.flat(file["activations"])
                flips += (author.features(layer, site) != reference).sum()
                bits += reference.size
        # If an activation is close to its threshold, the processor may decide whether the feature fires. So a few
        # bits may differ.
        assert flips <= 3 + 5e-6 * bits


def test_raw_activations_of_the_reference_implementation(runs, load):
    run = load(runs / "raw")
    for author in run.authors.values():
        for layer, site in run.hooks:
            name = f"sae__google_gemma-2-9b__{site}__activations__{author.name}__layer_{layer}.npz"
            with np.load(FIXTURES / "tiny-raw" / name) as file:
                reference = author.flat(file["activations"])
            values = author.features(layer, site).toarray()
            assert ((values > 0) != (reference > 0)).sum() <= 3
            both = (values > 0) & (reference > 0)
            np.testing.assert_allclose(values[both], reference[both], rtol=1e-4, atol=1e-4)
            assert values.max() > 1


def test_a_pad_token_in_a_text_is_a_token(runs, load):
    # One text of the corpus contains <pad> and <bos>, which the tokenizer encodes as special tokens.
    tokens = [piece for row in load(runs / "dense")["orchard"].tokens for piece in row]
    assert "<pad>" in tokens


def test_layers_and_sites_that_were_added_later(runs, load):
    run = load(runs / "grown")
    assert len(run.invocations) == 2
    assert (run.layers, run.sites) == ([1, 3], ["res", "att"])
    assert (run.settings["layers"], run.settings["layer_types"]) == ([1, 3], ["res", "att"])
    assert run.hooks == [(1, "res"), (3, "att")]
    whole = load(runs / "dense")
    for name, author in run.authors.items():
        assert run.saes[1, "res"]["layer"] == 1
        for layer, site in run.hooks:
            assert (author.features(layer, site) != whole[name].features(layer, site)).nnz == 0
    with pytest.raises(RunError, match=r"no layer 1, site 'att'.*\(1, 'res'\), \(3, 'att'\)"):
        author.features(1, "att")
    with pytest.raises(RunError, match="no layer 'res', site 1"):
        author.features("res", 1)


def test_several_models_in_one_folder(runs, load):
    with pytest.raises(RunError, match=f"run.json: has runs of 2 models.*'{MODEL}', '{OTHER_MODEL}'"):
        load(runs / "models")
    with pytest.raises(RunError, match=f"no run of model 'gemma'; it has '{MODEL}', '{OTHER_MODEL}'"):
        load(runs / "models", model="gemma")
    first, second = load(runs / "models", model=MODEL), load(runs / "models", model=OTHER_MODEL)
    assert len(first) == 5 and len(second) == 3
    author = "orchard"
    assert first[author].token_count != second[author].token_count
    assert first[author].features(2, "res").shape != second[author].features(2, "res").shape


def test_names_of_authors(runs, load):
    run = load(runs / "names")
    names = ["quarry works", "a/b", "100%", ".hidden", "two__parts", "_edge_", "Brontë 勃朗特", "long " * 50, "res", "layer_1"]
    assert list(run) == names
    for name in names:
        assert run[name].metadata(1, "mlp")["author"] == name
        assert name not in ("a/b", "100%", ".hidden") or run[name]._entry["name_in_files"] != name
    matrix, index = run.features(1, "mlp", authors=["two__parts", "a/b"])
    assert list(dict.fromkeys(index.author)) == ["two__parts", "a/b"]
    assert matrix.shape[0] == run["two__parts"].token_count + run["a/b"].token_count


def test_ranks_make_one_run_in_the_order_of_the_corpus(runs, load):
    run = load(runs / "ranks")
    assert [entry["ranks"] for entry in run.invocations] == [[1], [0]]
    assert list(run) == list(load(runs / "dense")) == ["orchard", "harbour", "quarry works", "marsh-9", "lantérne"]


def test_all_authors_at_once(runs, load):
    run = load(runs / "raw")
    for authors in (None, ["marsh-9", "orchard"], []):
        chosen = list(run) if authors is None else authors
        matrix, index = run.features(2, "att", authors)
        assert matrix.format == "csr" and matrix.dtype == np.float32
        assert matrix.shape == (sum(run[name].token_count for name in chosen), run.saes[2, "att"]["d_sae"])
        assert len(index.author) == len(index.document) == len(index.position) == matrix.shape[0]
        assert list(dict.fromkeys(index.author)) == chosen
        for name in chosen:
            rows = index.author == name
            assert (matrix[np.flatnonzero(rows)] != run[name].features(2, "att")).nnz == 0
            assert (index.document[rows] == run[name].index.document).all()
            assert (index.position[rows] == run[name].index.position).all()
        rates = run.rates(2, "att", authors)
        assert rates.shape == (len(chosen), matrix.shape[1]) and rates.dtype == np.float64
        for name, row in zip(chosen, rates):
            np.testing.assert_allclose(row, (run[name].features(2, "att").toarray() > 0).mean(axis=0))
    with pytest.raises(RunError, match="no author 'nobody'; there are 'orchard'"):
        run.features(2, "att", ["nobody"])
    # mean_l0 in run.json is the mean over the tokens of all authors.
    tokens = [author.token_count for author in run.authors.values()]
    assert np.average(run.rates(2, "att").sum(axis=1), weights=tokens) == pytest.approx(run.saes[2, "att"]["mean_l0"])


def test_flat_of_an_array_with_more_axes_and_of_another_shape(runs, load):
    author = load(runs / "dense")["marsh-9"]
    rows, columns = load(runs / "dense").shape
    assert author.documents < rows
    array = np.arange(rows * columns * 2).reshape(rows, columns, 2)
    assert author.flat(array).shape == (author.token_count, 2)
    assert (author.flat(array) == author.flat(array[: author.documents])).all()
    with pytest.raises(RunError, match=r"expected an array of shape \(5, 359, …\) or \(6, 359, …\), got \(3, 359\)"):
        author.flat(np.zeros((3, columns)))


def test_arrays_are_read_when_they_are_asked_for(copied, load):
    directory = copied("both")
    run = load(directory)
    for path in directory.iterdir():
        if path.is_file():
            path.unlink()
    # Values from run.json are already in memory, but all other results need the files.
    assert run["harbour"].tokens_per_document.sum() == run["harbour"].token_count
    with pytest.raises(RunError, match="there is no such file"):
        run["harbour"].entropy  # noqa: B018


def test_metrics_cannot_be_changed_by_mistake(runs, load):
    author = load(runs / "dense")["harbour"]
    with pytest.raises(ValueError):
        author.entropy[0, 0] = 1
    with pytest.raises(ValueError):
        author.entropy[0, 0] = np.ma.masked


def test_the_sparse_file_is_taken_where_there_are_both(copied, load):
    directory = copied("both")
    run = load(directory)
    for path in directory.glob("*layer_0.npz"):
        path.write_bytes(b"not a ZIP file")
    assert run["harbour"].features(0, "res").nnz > 0
    for path in directory.glob("*layer_3.sparse.npz"):
        path.unlink()
    assert load(directory)["harbour"].features(3, "res").nnz > 0
