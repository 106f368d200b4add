"""Runs the Python pipeline that `scripts/bench model --peer` and `scripts/bench bfloat16` measure.

The pipeline is scripts/reference/oracle.py with the model and the encoders in the given element type. Documents are padded
to --max_seq_len, PyTorch chooses the number of threads, and dense arrays and savez_compressed are included in the time.

The first argument is the element type (float32 or bfloat16); the others are oracle.py's flags. Prints a JSON object: seconds from
the first batch to the last file, number of batches, versions and threads.
"""
import json
import os
import sys
import time

import numpy as np
import torch
import transformers

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../reference"))
import oracle

kind = getattr(torch, sys.argv.pop(1))
begin = []


class Taps(oracle.HFTaps):
    def __init__(self, path):
        self.tok = transformers.AutoTokenizer.from_pretrained(path)
        self.tok.padding_side = "right"
        self.model = transformers.Gemma2ForCausalLM.from_pretrained(path, dtype=kind, attn_implementation="eager").eval()

    def run(self, ids, layers):
        begin.append(time.perf_counter())
        logits, taps = super().run(ids, layers)
        # The logits are converted to float32, as usual for the loss of a bfloat16 model.
        return logits.float(), taps


def load_sae(path):
    with np.load(path + "/params.npz") as file:
        # Some SAE files name the array w_enc instead of W_enc.
        arrays = {name.replace("w_", "W_"): np.ascontiguousarray(file[name], np.float32) for name in file.files if "dec" not in name}
    w, b, t = (torch.from_numpy(arrays[name]).to(kind) for name in ("W_enc", "b_enc", "threshold"))

    def encode(x):
        pre = x @ w + b
        return (torch.relu(pre) * (pre > t)).float(), (pre - t.clamp(min=1.0)).float()
    return encode, w.shape[1]


torch.set_num_threads = lambda count: None
oracle.HFTaps, oracle.load_sae_plain = Taps, load_sae
oracle.main(sys.argv[1:])
print(json.dumps({"seconds": time.perf_counter() - begin[0], "batches": len(begin), "torch": torch.__version__,
                  "transformers": transformers.__version__, "threads": torch.get_num_threads()}))
