#!/usr/bin/env python3
"""Builds a tiny, deterministic Gemma-2 + SAE + corpus fixture.

Everything is random or invented; nothing is derived from a published model.

  OUT/model/        config.json, sharded safetensors + index, tokenizer (new-style merges)
  OUT/model-single/ same architecture, one model.safetensors, other dtype, other config spelling,
                    tokenizer.json with old-style ("a b") merges
  OUT/sae/          Gemma-Scope tree:  gemma-scope-2b-pt-{res,mlp,att}/layer_L/width_16k/average_l0_N/params.npz
  OUT/sae-lens/     SAELens tree:      {res,mlp,att}/layer_L/width_16k/average_l0_N/{cfg.json,sae_weights.safetensors}
  OUT/authormix.jsonl
"""
import argparse
import json
import math
import os
import shutil
import sys
import tempfile

import numpy as np

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
HIDDEN, LAYERS, HEADS, KV, HEAD_DIM, INTER = 64, 4, 4, 2, 32, 128
WINDOW, QPAS, VOCAB, D_SAE, D_DECOY = 16, 48, 640, 70, 4
# For each layer, the first L0 is the SAE that --target_l0 50 must select. The others are decoys with D_DECOY
# features.
L0 = {
    "res": {0: [46, 13, 105], 1: [40, 60], 2: [51, 9, 102], 3: [34, 68, 143]},
    "mlp": {0: [60, 119, 9], 1: [48, 114], 2: [45, 110], 3: [35, 80]},
    "att": {0: [57, 104, 12], 1: [59, 30], 2: [36, 70], 3: [44, 98]},
}
AUTHORS = ["harbour", "orchard", "quarry works", "lant\u00e9rne", "marsh-9"]


# ----------------------------------------------------------------------------- corpus
def build_texts(rng):
    """Returns 46 invented passages and 11 edge cases as (author, text). main() adds three edge cases of token counts."""
    vocab = {
        "harbour": ("tide rope gull mast fog bell pier crate net buoy lamp salt wind keel hatch quay ferry log drift "
                    "anchor signal cargo deck harbour captain watch ledger knot".split(),
                    "pulled counted lowered waited drifted signalled moored carried mended watched".split()),
        "orchard": ("apple pear branch ladder basket bee frost soil blossom root pruning knife cider press wasp hedge "
                    "orchard row barrel straw morning rain worm leaf graft".split(),
                    "picked pruned grafted sorted washed pressed stored watered ripened bruised".split()),
        "quarry works": ("granite block drill dust cart rail chisel wedge ledge crane siren foreman shift gravel slate "
                         "quarry powder fuse bench ramp load gauge".split(),
                         "split hauled measured cracked blasted stacked drilled weighed cut levelled".split()),
        "lant\u00e9rne": ("paper wick candle shadow street window smoke glass ember moth square verse caf\u00e9 r\u00eaverie "
                          "night river bridge song dusk lantern mirror".split(),
                          "glowed flickered wandered dimmed whispered burned danced faded hummed leaned".split()),
        "marsh-9": ("reed heron sensor probe sample pump sluice mud gauge salinity pH reading boardwalk algae frog level "
                    "marsh station batch buffer delta log".split(),
                    "recorded sampled calibrated drained flooded rose sank stabilised tripped reset".split()),
    }
    glue = "the a one every that this no our their some".split()
    prep = "under over near beside into past without before after against".split()
    tail = ["", ", again", " as always", ", they said", " -- or so it seemed", " (twice)", "; nobody minded", "..."]

    def sentence(a):
        nouns, verbs = vocab[a]
        pick = lambda xs: xs[int(rng.integers(len(xs)))]
        s = f"{pick(glue)} {pick(nouns)} {pick(verbs)} {pick(prep)} {pick(glue)} {pick(nouns)}"
        if rng.random() < 0.5:
            s += f" and {pick(verbs)} {pick(prep)} {pick(glue)} {pick(nouns)}"
        if rng.random() < 0.25:
            s += f" at {int(rng.integers(1, 24))}:{int(rng.integers(0, 60)):02d}"
        s += pick(tail)
        return s[0].upper() + s[1:] + pick([".", ".", ".", "!", "?"])

    def passage(a, n, sep=" "):
        return sep.join(sentence(a) for _ in range(n))

    plan = []  # (author, text)
    counts = {"harbour": 12, "orchard": 9, "quarry works": 7, "lant\u00e9rne": 4, "marsh-9": 3}
    for a, n in counts.items():
        for i in range(n):
            plan.append((a, passage(a, int(rng.integers(5, 11)), sep="\n" if i % 4 == 3 else " ")))
    for i in range(11):  # too short
        a = AUTHORS[i % 5]
        plan.append((a, passage(a, int(rng.integers(1, 3)))))

    words = lambda a, n: (passage(a, 12).split())[:n]
    ws = ["\u00a0", "\u2003", "\u3000", "\u2028", "\u2029", "\u0085", "\x1c", "\x1d", "\x1e", "\x1f", "\t", "\n", "\r\n",
          "\x0b", "\x0c", "\u1680", "\u202f", "\u205f", " "]
    nows = ["\u200b", "\ufeff", "\u2060", "\u180e"]
    w = words("harbour", 35)
    edge = [
        ("harbour", " ".join(words("harbour", 35))),  # exactly 35 words: kept
        ("orchard", " ".join(words("orchard", 34))),  # exactly 34: not selected
        # This text has 35 words only if every white-space character of Python's str.split() separates words.
        ("marsh-9", "".join(x + ws[i % len(ws)] for i, x in enumerate(w[:-1])) + w[-1]),
        # This text has 34 words, because zero-width characters do not separate words.
        ("quarry works", " ".join(words("quarry works", 33)) + " " + "a".join(nows) + "b"),
        ("lant\u00e9rne", "Caf\u00e9 and cafe\u0301 are two spellings; \u212bngstr\u00f6m, \u00c5ngstr\u00f6m and A\u030angstro\u0308m are three. "
                        "\U0001f469\u200d\U0001f52c lit a \U0001f56f\ufe0f under the \U0001f1eb\U0001f1f7 flag \U0001f44d\U0001f3fd, \u6771\u4eac\u306e\u591c, "
                        "\u041d\u043e\u0447\u044c, \u0644\u064a\u0644, \u0928\u092e\u0938\u094d\u0924\u0947, \ud55c\uad6d\uc5b4 and \ufb01nal \u0133. "
                        "It cost \u20ac3 \u2013 not \u00bd of \u00a37 \u2014 said the \u201clantern\u201d to the \u2018moth\u2019 \u2026 and the night hummed on "
                        "until the last glass on the river bridge went dark \U0001f600\U0001f600."),
        ("quarry works", "  Shift   log:\n\n\n\tblock\t\t12    of 1984\n\n\n\n\n\n\nWeight:   3.14159 t,      dust 0.007%;" + " " * 40 +
                         "siren at 00:07.\r\n\r\nForeman counted 1000000 chips and 42 wedges before the crane split the granite block near the ramp again  \n "),
        ("orchard", "Row <start_of_turn>seven<end_of_turn> was marked <bos> by mistake and <eos> too, with <pad> <unk> <mask> in the notes; "
                    "[@BOS@] <unused2> <unused20> <0x41> \u2581\u2581basket \u2581 \u2581\u2581\u2581 <table>apples</table> <h1>Pears</h1> "
                    "and every branch was pruned under that ladder before the morning frost pressed the soil."),
        ("harbour", "He wrote \"C:\\\\ropes\\knots\" and 'tide/salt' in the ledger;\u0001\u0008\u000c\u001b[0m bell \u007f rang \u2028 twice \u2029 "
                    "then </script> & <b>fog</b> past the pier, \\n was not a newline, \\u0041 was not a letter, and the watch "
                    "counted every crate on the quay before the ferry left \u00ad slowly \ufffd into the drift."),
        ("harbour", ""),
        ("orchard", " \n\t "),
        ("marsh-9", "the " * 60),  # repetitive, trailing space
    ]
    return plan, edge


def shuffled(xs, rng):
    return [xs[i] for i in rng.permutation(len(xs))]


# ----------------------------------------------------------------------------- tokenizer
def train_tokenizer(texts, out):
    import sentencepiece as spm
    from transformers import GemmaTokenizerFast

    uds = (["<mask>", "<2mass>", "[@BOS@]"] + [f"<unused{i}>" for i in range(4)] + ["<start_of_turn>", "<end_of_turn>"]
           + ["\n" * k for k in range(1, 6)] + ["\u2581" * k for k in range(2, 9)] + ["\t\t", "\t\t\t"]
           + ["<table>", "</table>", "<h1>", "</h1>"])
    out, cwd, tmp = os.path.abspath(out), os.getcwd(), tempfile.mkdtemp()
    os.chdir(tmp)  # the model file stores model_prefix, so the prefix must be relative
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([t for t in texts if t.strip()]), model_prefix="tiny", model_type="bpe",
        vocab_size=VOCAB, normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
        split_digits=True, byte_fallback=True, split_by_unicode_script=True, split_by_number=True,
        split_by_whitespace=True, treat_whitespace_as_suffix=False, allow_whitespace_only_pieces=True,
        character_coverage=0.9985, num_threads=1, user_defined_symbols=uds, minloglevel=2,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>", unk_piece="<unk>")
    os.chdir(cwd)
    tok = GemmaTokenizerFast(vocab_file=os.path.join(tmp, "tiny.model"))
    tok.save_pretrained(out)
    shutil.copy(os.path.join(tmp, "tiny.model"), os.path.join(out, "tokenizer.model"))
    cfgp = os.path.join(out, "tokenizer_config.json")
    cfg = json.load(open(cfgp))
    cfg["tokenizer_class"] = "GemmaTokenizer"
    json.dump(cfg, open(cfgp, "w"), indent=2, ensure_ascii=False)
    shutil.rmtree(tmp)


# ----------------------------------------------------------------------------- model
def model_weights(seed):
    g = np.random.Generator(np.random.PCG64(seed))
    n = lambda shape, std, mean=0.0: (mean + std * g.standard_normal(shape)).astype(np.float32)
    w = {"model.embed_tokens.weight": n((VOCAB, HIDDEN), 0.125)}
    for i in range(LAYERS):
        p = f"model.layers.{i}."
        w[p + "self_attn.q_proj.weight"] = n((HEADS * HEAD_DIM, HIDDEN), 0.45)
        w[p + "self_attn.k_proj.weight"] = n((KV * HEAD_DIM, HIDDEN), 0.45)
        w[p + "self_attn.v_proj.weight"] = n((KV * HEAD_DIM, HIDDEN), 0.2)
        w[p + "self_attn.o_proj.weight"] = n((HIDDEN, HEADS * HEAD_DIM), 0.15)
        w[p + "mlp.gate_proj.weight"] = n((INTER, HIDDEN), 0.25)
        w[p + "mlp.up_proj.weight"] = n((INTER, HIDDEN), 0.2)
        w[p + "mlp.down_proj.weight"] = n((HIDDEN, INTER), 0.15)
        w[p + "input_layernorm.weight"] = n((HIDDEN,), 0.3)
        w[p + "post_attention_layernorm.weight"] = n((HIDDEN,), 0.3, -0.2)
        w[p + "pre_feedforward_layernorm.weight"] = n((HIDDEN,), 0.3)
        w[p + "post_feedforward_layernorm.weight"] = n((HIDDEN,), 0.3, -0.2)
    w["model.norm.weight"] = n((HIDDEN,), 1.0, 3.5)
    return w


def base_config(dtype):
    return {
        "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
        "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1,
        "final_logit_softcapping": 30.0, "head_dim": HEAD_DIM, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": HIDDEN, "initializer_range": 0.02,
        "intermediate_size": INTER, "max_position_embeddings": 512, "model_type": "gemma2",
        "num_attention_heads": HEADS, "num_hidden_layers": LAYERS, "num_key_value_heads": KV, "pad_token_id": 0,
        "query_pre_attn_scalar": QPAS, "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": WINDOW,
        "torch_dtype": dtype, "transformers_version": "4.42.4", "use_cache": True, "vocab_size": VOCAB,
    }


def save_model(out, weights, dtype, sharded, new_style):
    import torch
    from safetensors.torch import save_file

    os.makedirs(out, exist_ok=True)
    td = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    name = {"f32": "float32", "bf16": "bfloat16"}[dtype]
    cfg = base_config(name)
    if new_style:  # the form that recent transformers versions write
        cfg["dtype"] = cfg.pop("torch_dtype")
        cfg["layer_types"] = ["sliding_attention", "full_attention"] * (LAYERS // 2)
        cfg["tie_word_embeddings"] = True
        del cfg["hidden_act"], cfg["cache_implementation"]
        # These values differ from the published ones, so that tests detect a reader that ignores config.json.
        cfg.update(attn_logit_softcapping=40.0, final_logit_softcapping=25.0, rms_norm_eps=1e-3, rope_theta=5000.0,
                   sliding_window=24, query_pre_attn_scalar=40)
    json.dump(cfg, open(os.path.join(out, "config.json"), "w"), indent=2, sort_keys=True)
    t = {k: torch.from_numpy(v).to(td) for k, v in weights.items()}
    if not sharded:
        save_file(t, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
        return
    limit, shards, cur, size = 400_000, [], {}, 0
    for k, v in t.items():
        b = v.numel() * v.element_size()
        if cur and size + b > limit:
            shards.append(cur)
            cur, size = {}, 0
        cur[k] = v
        size += b
    shards.append(cur)
    wmap = {}
    for i, s in enumerate(shards, 1):
        fn = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        save_file(s, os.path.join(out, fn), metadata={"format": "pt"})
        wmap.update({k: fn for k in s})
    total = sum(v.numel() * v.element_size() for v in t.values())
    json.dump({"metadata": {"total_size": total}, "weight_map": dict(sorted(wmap.items()))},
              open(os.path.join(out, "model.safetensors.index.json"), "w"), indent=2)


# ----------------------------------------------------------------------------- SAEs
def calibrated_sae(g, acts, d_sae):
    """acts: [n, d_in] float32 sample of the tap. Returns an SAE whose features fire (pre > max(threshold,1)) on 2-15 % of acts."""
    d_in = acts.shape[1]
    rms = float(np.sqrt((acts.astype(np.float64) ** 2).mean()))
    w_enc = (g.standard_normal((d_in, d_sae)) * (g.uniform(1.5, 5.0, d_sae) / (rms * math.sqrt(d_in)))).astype(np.float32)
    thr = np.round(g.uniform(0.3, 3.0, d_sae) * 256) / 256
    rate = g.uniform(0.02, 0.15, d_sae)
    pre = acts.astype(np.float64) @ w_enc.astype(np.float64)
    q = np.array([np.quantile(pre[:, j], 1 - rate[j]) for j in range(d_sae)])
    b_enc = np.round((np.maximum(thr, 1.0) - q) * 256) / 256
    w_dec = g.standard_normal((d_sae, d_in))
    w_dec /= np.linalg.norm(w_dec, axis=1, keepdims=True)
    return {"W_dec": w_dec.astype(np.float32), "W_enc": w_enc, "b_dec": (0.5 * g.standard_normal(d_in)).astype(np.float32),
            "b_enc": b_enc.astype(np.float32), "threshold": thr.astype(np.float32)}


HOOK = {"res": "blocks.{}.hook_resid_post", "mlp": "blocks.{}.hook_mlp_out", "att": "blocks.{}.attn.hook_z"}


def save_npz(path, p, how):
    os.makedirs(path, exist_ok=True)
    if how.get("lower"):
        p = {("w_" + k[2:] if k.startswith("W_") else k): v for k, v in p.items()}
    if how.get("fortran"):
        p = {k: np.asfortranarray(v) for k, v in p.items()}
    (np.savez_compressed if how.get("deflate") else np.savez)(os.path.join(path, "params.npz"), **p)


def save_saelens(path, p, fam, layer, modern):
    from safetensors.numpy import save_file

    os.makedirs(path, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in p.items()}, os.path.join(path, "sae_weights.safetensors"))
    d_in, d_sae = p["W_enc"].shape
    hook = HOOK[fam].format(layer)
    if modern:  # SAELens >= 6
        cfg = {"d_in": d_in, "d_sae": d_sae, "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": False,
               "normalize_activations": "none", "reshape_activations": "hook_z" if fam == "att" else "none",
               "metadata": {"sae_lens_version": "6.12.1", "sae_lens_training_version": None, "model_name": "gemma-2-2b",
                            "hook_name": hook, "hook_head_index": None, "prepend_bos": True, "context_size": 1024},
               "architecture": "jumprelu"}
    else:  # SAELens 3-5, flat
        cfg = {"architecture": "jumprelu", "d_in": d_in, "d_sae": d_sae, "activation_fn_str": "relu",
               "apply_b_dec_to_input": False, "finetuning_scaling_factor": False, "context_size": 1024,
               "model_name": "gemma-2-2b", "hook_name": hook, "hook_layer": layer, "hook_head_index": None,
               "prepend_bos": True, "dataset_path": "none", "dataset_trust_remote_code": True,
               "normalize_activations": "none", "dtype": "torch.float32", "device": "cpu",
               "sae_lens_training_version": None, "activation_fn_kwargs": {}, "neuronpedia_id": None,
               "model_from_pretrained_kwargs": {}, "seqpos_slice": [None]}
    json.dump(cfg, open(os.path.join(path, "cfg.json"), "w"))


# ----------------------------------------------------------------------------- main
def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", default=os.path.join(ROOT, ".build/tiny"), help="default: .build/tiny")
    ap.add_argument("--seed", type=int, default=20240731)
    ap.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="dtype of OUT/model")
    ap.add_argument("--single_dtype", choices=["f32", "bf16"], default="bf16", help="dtype of OUT/model-single")
    a = ap.parse_args()
    a.out = os.path.abspath(a.out)
    os.makedirs(a.out, exist_ok=True)
    for d in ("model", "model-single", "sae", "sae-lens"):
        shutil.rmtree(os.path.join(a.out, d), ignore_errors=True)
    rng = np.random.Generator(np.random.PCG64(a.seed))

    plain, edge = build_texts(rng)
    plan = plain + edge
    mdir, sdir = os.path.join(a.out, "model"), os.path.join(a.out, "model-single")
    os.makedirs(mdir)
    train_tokenizer([t for _, t in plan], mdir)
    from transformers import AutoTokenizer
    tok = AutoTokenizer.from_pretrained(mdir)
    assert len(tok) == VOCAB, len(tok)

    # Edge cases of token counts: 359 tokens of content (360 with <bos>, which fills all positions), 360 (one is cut),
    # about 700.
    def exactly(author, n):
        base = " ".join(t for s, t in plan if s == author and len(t.split()) >= 35)
        ids = tok(base, add_special_tokens=False)["input_ids"]
        for cut in range(n + 40, n - 40, -1):
            t = tok.decode(ids[:cut])
            for extra in ("", ".", ".?", ".?!", "\n", ".\n?"):
                if len(tok(t + extra, add_special_tokens=False)["input_ids"]) == n:
                    return t + extra
        raise SystemExit("no text with %d tokens" % n)
    edge += [("harbour", exactly("harbour", 359)), ("orchard", exactly("orchard", 360)), ("quarry works", exactly("quarry works", 700))]
    plain = shuffled(plain, rng)
    plan = shuffled(edge + plain[:8], rng) + plain[8:]  # edge cases early, so that small --n_docs limits keep them
    jsonl = os.path.join(a.out, "authormix.jsonl")
    with open(jsonl, "w", encoding="utf-8", newline="") as f:
        for i, (s, t) in enumerate(plan):
            row = {"style": s, "text": t}
            if i % 7 == 0:
                row = {"id": i, "text": t, "style": s, "extra": {"nested": [1, None, True]}}
            f.write(json.dumps(row, ensure_ascii=(i % 2 == 0)) + ("\r\n" if i == 20 else "\n\n" if i == 10 else "\n"))

    w = model_weights(a.seed + 1)
    save_model(mdir, w, a.dtype, sharded=True, new_style=False)
    save_model(sdir, w, a.single_dtype, sharded=False, new_style=True)
    for fn in os.listdir(mdir):
        if fn.startswith(("tokenizer", "special_tokens")):
            shutil.copy(os.path.join(mdir, fn), sdir)
    tj = json.load(open(os.path.join(sdir, "tokenizer.json"), encoding="utf-8"))
    tj["model"]["merges"] = [" ".join(m) if not isinstance(m, str) else m for m in tj["model"]["merges"]]
    json.dump(tj, open(os.path.join(sdir, "tokenizer.json"), "w", encoding="utf-8"), ensure_ascii=False, indent=2)

    # Makes the SAEs, calibrated on the model's real activations.
    import torch
    sys.path.append(os.path.join(ROOT, "scripts/reference"))
    from oracle import HFTaps, load_docs
    docs, _ = load_docs(jsonl, 35, None, 250, None)
    taps = HFTaps(mdir)
    acc = {}
    for lst in docs.values():
        ids, mask = taps.tokenize(lst, 360)
        for i in range(len(lst)):
            n = int(mask[i].sum())
            _, t = taps.run(ids[i:i + 1, :n], list(range(LAYERS)))
            for k, v in t.items():
                acc.setdefault(k, []).append(v[0, 1:].numpy())
    for fi, fam in enumerate(("res", "mlp", "att")):
        for layer in range(LAYERS):
            g = np.random.Generator(np.random.PCG64([a.seed, 7, fi, layer]))
            acts = np.concatenate(acc[(fam, layer)])
            for j, l0 in enumerate(L0[fam][layer]):
                p = calibrated_sae(g, acts, D_SAE if j == 0 else D_DECOY)
                sub = f"layer_{layer}/width_16k/average_l0_{l0}"
                how = {"deflate": fam == "mlp", "fortran": (fam, layer) == ("mlp", 1), "lower": (fam, layer) == ("att", 3)}
                save_npz(os.path.join(a.out, "sae", f"gemma-scope-2b-pt-{fam}", sub), p, how)
                if j < 2:
                    save_saelens(os.path.join(a.out, "sae-lens", fam, sub), p, fam, layer, modern=layer >= 2)
        # Decoys that must not be selected: another width, a layer whose name has the same prefix, an unrelated
        # folder.
        g = np.random.Generator(np.random.PCG64([a.seed, 8, fi]))
        p = calibrated_sae(g, np.concatenate(acc[(fam, 0)]), D_DECOY)
        for sub in ("layer_0/width_65k/average_l0_50", "layer_10/width_16k/average_l0_50"):
            save_npz(os.path.join(a.out, "sae", f"gemma-scope-2b-pt-{fam}", sub), p, {})
        os.makedirs(os.path.join(a.out, "sae", f"gemma-scope-2b-pt-{fam}", "layer_0/width_16k/canonical"))
        open(os.path.join(a.out, "sae", f"gemma-scope-2b-pt-{fam}", "layer_0/width_16k/canonical/README"), "w").write("decoy\n")
    size = sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(a.out) for f in fs if "/expected" not in d)
    print(f"{len(plan)} documents, vocabulary {VOCAB}, {size / 1e6:.2f} MB in {a.out}")


if __name__ == "__main__":
    main()
