#!/usr/bin/env python3
"""Prints digests of the tokens files that the Hugging Face tokenizer gives for a corpus.

    scripts/make/token_digests.py TOKENIZER.json CORPUS.jsonl

The output is {author: SHA-256 of the author's tokens file}, for the default selection (at least 35 words, at most 250 documents
per author) and 360 positions. Fixtures/authormix-tokens.json has the digests of the AuthorMix sample with Gemma-2's tokenizer, made
with tokenizers 0.22.2. The texts of the sample are not part of this repository.
"""
import hashlib
import json
import sys

from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file(sys.argv[1])
documents = {}
for line in open(sys.argv[2], encoding="utf-8", newline="\n"):
    row = json.loads(line)
    if len(row["text"].split()) >= 35 and len(documents.get(row["style"], ())) < 250:
        documents.setdefault(row["style"], []).append(row["text"])
digests = {}
for author, texts in documents.items():
    pieces = [tokenizer.encode(text).tokens[1:360] for text in texts]
    pieces = [p + ["<pad>"] * (359 - len(p)) for p in pieces]
    digests[author] = hashlib.sha256(json.dumps(pieces, ensure_ascii=False, indent=4).encode()).hexdigest()
print(json.dumps(digests, indent=4))
