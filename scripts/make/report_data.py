"""Writes the page of `sae-extract report` with random data of a given size, for experiments and for scripts/checks/report.py.

The names and tokens are deliberately hostile: markup, right-to-left text, bidi controls, emoji, very long pieces, byte tokens.
"""
import argparse
import json
import math
import os
import random
import re

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../Sources/C/CReport")
BINS = {"cross_entropy": {"from": 0, "to": 15, "count": 60}, "entropy": {"from": 0, "to": 10, "count": 60}}
NAMES = ["harbour", "</script><img src=x onerror=alert(1)>", "orchard", "blog 2004", "Hemingway", "Woolf", "حكيم", "obama",
         "trump", "speech & <b>bold</b>",
         "a_rather_long_author_name_that_somebody_took_from_a_file_name.txt", "עגנון", "wikipedia", "🐙 octo"]
WORDS = ["▁the", "▁of", "▁and", "▁whom", "▁sea", "▁said", ",", ".", "▁harb", "our", "▁light", "▁however", "ing", "▁1", "9", "▁I", "▁never",
         "▁tremendous", "▁people", "▁window", "▁she", "ed", "▁very", "▁Paris", ";", "▁“", "”", "\n", "▁blue", "▁quite", "ly", "▁to", "▁was"]
HOSTILE = ["</script><img src=x onerror=alert(2)>", "<!--", "<script>alert(3)</script>", "&amp;", "▁مرحبا", "▁שלום",
           "\u202eevil\u202c", "\u2067rtl",
           "🐙", "<0xF0>", "<0x0A>", "<0x9F>", "▁▁▁▁", "\n\n", "\t", "x" * 200, "@CSS@", "@DATA@", "$&",
           "'\"`", "\u200b", "<pad>", "{{7*7}}"]


def summary(rng, tokens, bins, scale):
    """Returns quantiles and histogram of random numbers that are distributed like a loss: many near zero, a long tail."""
    if tokens == 0:
        return {"mean": None, "p5": None, "p25": None, "p50": None, "p75": None, "p95": None, "max": None, "histogram": [0] * bins["count"]}
    values = sorted(rng.expovariate(6) if rng.random() < 0.3 else rng.gammavariate(2.2, scale) for _ in range(min(tokens, 4000)))
    at = {f"p{p}": round(values[min(len(values) - 1, int(p / 100 * len(values)))], 3) for p in (5, 25, 50, 75, 95)}
    histogram = [0] * bins["count"]
    for value in values:
        histogram[min(bins["count"] - 1, int((value - bins["from"]) / (bins["to"] - bins["from"]) * bins["count"]))] += 1
    return {"mean": round(sum(values) / len(values), 3), **at, "max": round(values[-1], 3),
            "histogram": [round(count * tokens / len(values)) for count in histogram]}


def contrast(counts, tokens):
    """Returns each author's log odds ratio against all others, with half a token added to each cell, and z, the log odds ratio
    divided by its standard error."""
    log_odds, z = [], []
    for count, total in zip(counts, tokens):
        cells = (count, total - count, sum(counts) - count, sum(tokens) - total - sum(counts) + count)
        a, b, c, d = (cell + 0.5 for cell in cells)
        value = math.log(a * d / (b * c))
        log_odds.append(round(value, 3))
        z.append(round(value / math.sqrt(1 / a + 1 / b + 1 / c + 1 / d), 2))
    return log_odds, z


def context(rng, author, documents, raw, strong, length):
    tokens = [rng.choice(HOSTILE) if rng.random() < 0.04 else rng.choice(WORDS) for _ in range(length)]
    fires = sorted({length // 2, *(rng.randrange(length) for _ in range(rng.choice((0, 0, 1, 2))))})
    if rng.random() < 0.7:
        tokens[length // 2] = strong
    return {"author": author, "document": rng.randrange(max(1, documents)), "start": rng.randrange(300), "tokens": tokens,
            "fires": [[index, round(1 + rng.expovariate(0.08), 2) if raw else 1.0] for index in fires]}


def make(arguments):
    rng = random.Random(arguments.seed)
    authors = []
    for index in range(arguments.authors):
        name = NAMES[index] if index < len(NAMES) else f"{NAMES[index % len(NAMES)]} {index}"
        empty = arguments.empty and index == arguments.authors - 1
        documents = 0 if empty else rng.randrange(20, 250)
        tokens = documents * rng.randrange(150, 340)
        skill = rng.uniform(0.8, 1.5)
        authors.append({"name": name, "documents": documents, "tokens": tokens, "truncated": rng.randrange(documents + 1) // 3,
                        "cross_entropy": summary(rng, tokens, BINS["cross_entropy"], 1.4 * skill),
                        "entropy": summary(rng, tokens, BINS["entropy"], skill)})
    tokens = [author["tokens"] for author in authors]
    hooks = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
    sites = list(hooks)[:min(3, arguments.saes)]
    layers = [5 * (1 + index // len(sites)) for index in range(arguments.saes)]
    saes = []
    for index in range(arguments.saes):
        site, layer = sites[index % len(sites)], layers[index]
        published = rng.randrange(30, 120)
        mean = published * rng.uniform(0.8, 1.15)
        named = index % 4 != 3
        features = []
        for _ in range(0 if arguments.empty and index == 1 else arguments.features):
            base, marked = 10 ** rng.uniform(-4, -1.5), rng.randrange(arguments.authors)
            counts = [min(total, round(total * base * math.exp(rng.gauss(rng.uniform(1, 3.5) if author == marked else 0, 0.4))))
                      for author, total in enumerate(tokens)]
            log_odds, z = contrast(counts, tokens)
            strong = rng.choice(HOSTILE) if rng.random() < 0.2 else rng.choice(WORDS)
            near = [marked] * 3 + [rng.randrange(arguments.authors) for _ in range(arguments.contexts)]
            features.append({"id": rng.randrange(16384), "counts": counts,
                             "documents": [min(count, round(author["documents"] * (1 - math.exp(-count / max(1, author["documents"])))))
                                           for count, author in zip(counts, authors)],
                             "log_odds": log_odds, "z": z,
                             "contexts": [context(rng, author, authors[author]["documents"], arguments.raw, strong, arguments.length)
                                          for author in near[:arguments.contexts] if tokens[author]]})
        features = list({feature["id"]: feature for feature in features}.values())
        features.sort(key=lambda feature: -max(feature["z"]))
        saes.append({
            "hook": f"blocks.{layer}.{hooks[site]}", "site": site, "layer": layer,
            "sae_name": f"layer_{layer}/width_16k/average_l0_{published}", "published_l0": published, "d_sae": 16384,
            "neuronpedia": f"gemma-2-2b/{layer}-gemmascope-{site}-16k" if named else None,
            "neuronpedia_note": "" if named else f"no page for average_l0_{published}",
            "alive": rng.randrange(6000, 15000),
            "l0": {"mean": round(mean, 1), **{f"p{p}": round(mean * f) for p, f in ((5, 0.4), (25, 0.7), (50, 0.95), (75, 1.2), (95, 1.8))},
                   "max": round(mean * 5)},
            "l0_by_author": [round(mean * rng.gauss(1, 0.08), 1) if total else None for total in tokens], "features": features})
    notes = []
    if arguments.notes:
        notes = ["author '<img src=x onerror=alert(4)>' is not complete: 3 of 12 files are missing", "two rows of 'harbour' are empty"]
    return {"format": "sae-extract report", "format_version": 1, "tool": "0.1.0", "model": "google/gemma-2-2b",
            "save_dir": "data/raw_features/AuthorMix",
            "started": "2025-03-03T07:00:00Z", "finished": "2025-03-03T07:20:07Z" if not arguments.notes else None,
            "device": "cuda", "devices": ["NVIDIA H100 80GB HBM3"], "kernels": ["sm_90"], "dtype": "float32",
            "reproducible": not arguments.notes,
            "threshold": 1.0, "values": "raw" if arguments.raw else "binary", "max_seq_len": 360, "prefix": "",
            "command": ["sae-extract", "--layers", *map(str, sorted(set(layers))), "--save_dir", "data/raw_features/AuthorMix",
                        "--authors", "it's <b>"],
            "notes": notes, "bins": BINS, "authors": authors, "saes": saes}


def joined(data):
    """Returns the page with its four placeholders replaced in one pass, so that placeholders in the data are not replaced."""
    files = {name: open(os.path.join(PAGE, "page." + name.lower()), encoding="utf-8").read() for name in ("HTML", "CSS", "JS")}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    title = data["model"].replace("&", "&amp;").replace("<", "&lt;") + " – sae-extract report"
    places = {"@TITLE@": title, "@CSS@": files["CSS"], "@JS@": files["JS"], "@DATA@": text}
    for place in places:
        if files["HTML"].count(place) != 1:
            raise SystemExit(f"page.html has {place} {files['HTML'].count(place)} times instead of once")
    return re.sub("@(?:TITLE|CSS|JS|DATA)@", lambda match: places[match.group()], files["HTML"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("page", help="the HTML file to write")
    parser.add_argument("--data", help="read the data from this JSON file instead of making it")
    parser.add_argument("--json", help="also write the data to this file")
    parser.add_argument("--authors", type=int, default=14)
    parser.add_argument("--saes", type=int, default=12)
    parser.add_argument("--features", type=int, default=100, help="features of each SAE")
    parser.add_argument("--contexts", type=int, default=6, help="contexts of each feature")
    parser.add_argument("--length", type=int, default=25, help="tokens of each context")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--raw", action="store_true", help="activations instead of 1")
    parser.add_argument("--notes", action="store_true", help="a run that is neither complete nor reproducible")
    parser.add_argument("--empty", action="store_true", help="the last author has no tokens, the second SAE no features")
    arguments = parser.parse_args()
    data = json.load(open(arguments.data, encoding="utf-8")) if arguments.data else make(arguments)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False)
    with open(arguments.page, "w", encoding="utf-8", newline="") as file:
        file.write(joined(data))
