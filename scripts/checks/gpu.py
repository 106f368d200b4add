"""Checks sae-extract on a GPU host and writes a report: scripts/gpu-check [options]. Exit status 0 only if nothing failed.

The parts run in this order. A part runs even if another part failed:

environment  the card, the driver, the output of `sae-extract devices`, versions, the binary
kernels      scripts/checks/kernels.py
fixture      compares the outputs for Fixtures/tiny on the CPU and the card with the Python reference's files and with each other,
             and bfloat16 with float32
parity       compares the program's outputs for a random model of Gemma-2-2b's shape with twelve SAEs of 16k with transformers in
             float32 on the same card and with a plain float64 forward pass
throughput   measures tokens/s in the model and SAEs, the whole default job from start to end, and the Python pipeline

The random checkpoints (one with values that bfloat16 can represent, one with arbitrary values) and SAEs are made once on the card
and kept for the next call: 25 GB, in /dev/shm if it has room, otherwise in --work. --quick uses a small model; with --pretend-cpu
as well, the script runs on any host.
"""
import argparse
import concurrent.futures
import dataclasses
import datetime
import gc
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time
import traceback

# Python adds this script's folder to the import path. Without this line, transformers would import kernels.py as the
# package `kernels`.
sys.path[:] = [folder for folder in sys.path if folder != str(pathlib.Path(__file__).resolve().parent)]

import numpy as np
import safetensors
import tokenizers
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = "Fixtures/tiny"
SITES = ("res", "mlp", "att")
SEED = 20240731
FORMAT = 2  # version of the files in the model folder; files of another version are made again

# Token counts of AuthorMix documents with at least 35 words, as quantiles in steps of 5% (Gemma's tokenizer, without
# <bos>).
TOKEN_LENGTHS = [40, 45, 50, 54, 62, 65, 70, 75, 78, 82, 86, 90, 94, 98, 102, 105, 112, 125, 132, 159, 231]
MIN_WORDS, MAX_TOKENS = 35, 360
MEAN_L0 = 60

# Tolerances, as in scripts/reference/compare.py. MARGIN is a distance from a threshold, relative to the scale of the
# pre-activations.
MARGIN, FLIPS = 1e-3, 5e-6
METRIC_ABSOLUTE, METRIC_RELATIVE = 1e-3, 2e-4

TARGETS = {"float32, exact": 35_000, "float32, arbitrary": 25_000, "bfloat16": 60_000}  # tokens/s
TARGET_RATIO, TARGET_SECONDS = 30, 60


@dataclasses.dataclass
class Scale:
    """The sizes of the model, the corpus and the checks."""

    shape: dict
    layers: tuple
    d_sae: int
    authors: int
    documents: int  # per author
    calibration_documents: int
    parity_documents: int
    float64_documents: int
    throughput_authors: int
    pipeline_documents: int
    pipeline_batch: int


FULL = Scale(
    shape={"hidden_size": 2304, "intermediate_size": 9216, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
           "num_hidden_layers": 26, "vocab_size": 256000},
    layers=(5, 10, 15, 20), d_sae=16384, authors=14, documents=250, calibration_documents=64, parity_documents=32, float64_documents=4,
    throughput_authors=14, pipeline_documents=16, pipeline_batch=8)
QUICK = Scale(
    shape={"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
           "num_hidden_layers": 4, "vocab_size": 4096},
    layers=(0, 1, 2, 3), d_sae=1024, authors=3, documents=8, calibration_documents=8, parity_documents=6, float64_documents=2,
    throughput_authors=2, pipeline_documents=4, pipeline_batch=2)


class Failure(Exception):
    """A check that could not run or that failed. Its text goes into the report."""


# ----------------------------------------------------------------------------- report
def table(rows):
    """Returns a Markdown table; the first row is the head."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def block(text):
    return f"```\n{text.rstrip()}\n```"


class Report:
    """The report. Every addition writes the whole file again."""

    def __init__(self, path, head):
        self.path, self.head = path, head
        self.begin = time.perf_counter()
        self.summary, self.sections, self.commands = [], [], []

    def log(self, text):
        print(f"[{time.perf_counter() - self.begin:6.1f} s] {text}", flush=True)

    def say(self, text):
        """Prints `text` and adds it to the section of the current part."""
        self.log(text if "\n" not in text else "\n" + text)
        self.sections.append(text)
        self.save()

    def check(self, what, result, target="", holds=None):
        """Adds a row to the summary. `holds` is whether the check passed, or None if the row has no verdict."""
        verdict = {True: "pass", False: "FAIL", None: "–"}[holds]
        self.summary.append((what, result, target, verdict))
        self.log(f"{verdict}: {what}: {result}" + (f" (target {target})" if target else ""))
        self.save()

    def failed(self):
        return [row[0] for row in self.summary if row[3] == "FAIL"]

    def save(self):
        summary = table([("check", "result", "target", "verdict"), *self.summary]) if self.summary else "Nothing yet."
        commands = block("\n".join(self.commands)) if self.commands else "None yet."
        text = "\n\n".join([self.head, "## Summary", summary, *self.sections, "## Commands", commands]) + "\n"
        part = self.path.with_name(self.path.name + ".part")
        part.write_text(text, encoding="utf-8")
        part.replace(self.path)


# ----------------------------------------------------------------------------- shared by all parts
class Check:
    def __init__(self, options):
        self.options = options
        self.scale = QUICK if options.quick else FULL
        self.binary, self.work = options.binary, options.work
        self.device = "cpu" if options.pretend_cpu else "cuda"
        self.card = card() if not options.pretend_cpu else "CPU, pretending"
        options.report.parent.mkdir(parents=True, exist_ok=True)
        self.report = Report(options.report, heading(self.card, options))
        self.deadline = time.perf_counter() + options.budget
        self.work.mkdir(parents=True, exist_ok=True)
        self.models = model_folder(self.work, self.scale, options.quick)

    def left(self):
        return self.deadline - time.perf_counter()

    def need(self, seconds, what):
        if self.left() < (seconds if not self.options.quick else 5):
            raise Failure(f"{what}: not run, only {self.left():.0f} s of --budget are left")

    def run(self, command):
        """Runs a command, until the budget is used up. Returns its exit status and output."""
        command = [str(part) for part in command]
        self.report.commands.append(shlex.join("python3" if part == sys.executable else part for part in command))
        self.need(5, command[0])
        try:
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                  timeout=self.left(), stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"ended because --budget was used up: {shlex.join(command)}") from error
        except OSError as error:
            raise Failure(f"{command[0]}: {error}") from error
        return done.returncode, done.stdout

    def extract(self, name, arguments, device="cuda", dtype=None):
        """Runs the program with an empty --save_dir."""
        folder = self.work / "out" / name
        shutil.rmtree(folder, ignore_errors=True)
        command = [self.binary, *arguments, "--save_dir", folder]
        if not self.options.pretend_cpu:
            command += ["--device", device]
            command += ["--dtype", dtype] if dtype else []
        begin = time.perf_counter()
        status, output = self.run(command)
        wall = time.perf_counter() - begin
        if status != 0:
            raise Failure(f"{name}: sae-extract ended with {status}\n" + "\n".join(output.splitlines()[-12:]))
        run = Run(folder, json.loads((folder / "run.json").read_text(encoding="utf-8"))["runs"][-1], wall, output)
        if not self.options.pretend_cpu and (run.json.get("device") == "cpu") != (device == "cpu"):
            raise Failure(f"{name}: requested {device}, ran on {run.json.get('device')}")
        self.report.log(f"{name}: {wall:.1f} s; {run.description()}")
        return run

    def model_arguments(self, variant):
        return ["--layers", *self.scale.layers, "--model_path", self.models / variant, "--sae_dir", self.models / "saes",
                "--data_path", self.models / "corpus.jsonl", "--batch_size", "auto"]

    def free_memory(self):
        """Frees torch's memory on the card before the program runs."""
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()


@dataclasses.dataclass
class Run:
    """A finished run of the program: its folder, its entry in run.json, wall seconds, and its log."""

    folder: pathlib.Path
    json: dict
    wall: float
    output: str

    def seconds(self, key):
        """Returns the seconds `key` of the slowest worker, or None if no worker reports them."""
        return max((worker[key] for worker in self.json.get("seconds", []) if key in worker), default=None)

    def rates(self):
        """Returns two rates in tokens/s, or None for a rate whose time is missing.

        The first rate divides by the seconds that the program waited for the model and SAEs. It can be too high, because the card
        computes while files are written. The second rate divides by the time from the start of the first batch to the end of the
        last batch on the card. It can be too low, because this time includes gaps in which files are written.
        """
        return [self.json["tokens_computed"] / self.seconds(key) if self.seconds(key) else None for key in ("model", "gpu_span")]

    def gaps(self):
        """Returns the share of the time between the first batch's start and the last batch's end in which the card was idle."""
        busy, span = self.seconds("gpu_busy"), self.seconds("gpu_span")
        return f"{100 * (1 - busy / span):.1f} %" if busy is not None and span else "n/a"

    def description(self):
        parts = [self.json.get("device", "?"), *self.json.get("kernels", []), self.json.get("dtype", "?"), *self.json.get("products", [])]
        return ", ".join(map(str, parts))


def card():
    """Returns name, driver and memory of the card as text."""
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown card"
    lines = done.stdout.strip().splitlines()
    if not lines:
        return "unknown card"
    name, driver, memory = (part.strip() for part in lines[0].split(","))
    return f"{name}, driver {driver}, {memory}"


def current_commit():
    try:
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip() or "unknown"
    except OSError:
        return "unknown"


TERMS = """\
Terms in this report:

- A feature that fires at a token is **on**. A **bit** says whether one feature is on at one token.
- **exact**: a random checkpoint in float32 whose weights are bfloat16 numbers. **arbitrary**: the same checkpoint
  without rounding its weights to bfloat16.
- **gaps**: the share of the time from the first to the last batch in which the card had nothing to do.
- A bit that differs is **within the margin** if its pre-activation is close to its limit, so that rounding can decide
  the bit. Otherwise it is **far**. The limit is the larger of the SAE's threshold and `--feature_threshold`.
- **verdict**: pass or FAIL; – if the row has no requirement."""


def heading(card_name, options):
    commit = options.commit or current_commit()
    lines = ["# GPU check", "", f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, commit {commit}, {os.cpu_count()} cores. Card: {card_name}.",
             f"Made by `{shlex.join(['scripts/gpu-check', *sys.argv[1:]])}`."]
    if options.quick:
        lines += ["", "**A small model: this report tests the check itself and shows nothing about speed.**"]
    return "\n".join([*lines, "", TERMS])


def seconds_text(value):
    return "n/a" if value is None else f"{value:.2f}"


# ----------------------------------------------------------------------------- environment, kernels, fixture
def environment(check):
    report = check.report
    binary = ROOT / check.binary
    rows = [("what", "value"), ("card", check.card), ("torch", f"{torch.__version__}, CUDA {torch.version.cuda}"),
            ("transformers", transformers.__version__), ("NumPy", np.__version__), ("memory", f"{memory_available() / 1e9:.0f} GB available"),
            ("random models in", check.models)]
    if not binary.is_file():
        report.say(table(rows))
        raise Failure(f"{check.binary} does not exist: build it, or give its path with --binary")
    _, libraries = check.run(["ldd", check.binary])
    rows += [("binary", f"{binary.stat().st_size / 1e6:.1f} MB, {len(libraries.splitlines())} lines of ldd")]
    missing = [line.split()[0] for line in libraries.splitlines() if "not found" in line]
    report.say(table(rows))
    report.check("binary", f"{binary.stat().st_size / 1e6:.1f} MB, libraries missing: {', '.join(missing) or 'none'}", holds=not missing)
    if check.options.pretend_cpu:
        return
    status, output = check.run([check.binary, "devices"])
    report.say(f"`sae-extract devices`:\n\n{block(output)}")
    report.check("sae-extract devices", f"exit status {status}", "0", status == 0)
    report.check("torch sees the card", torch.cuda.get_device_name() if torch.cuda.is_available() else "no", holds=torch.cuda.is_available())


def kernels(check):
    if check.options.pretend_cpu:
        check.report.check("kernels", "skipped, no GPU")
        return
    if not (ROOT / "scripts/checks/kernels.py").is_file():
        raise Failure("scripts/checks/kernels.py does not exist")
    status, output = check.run([sys.executable, "scripts/checks/kernels.py"])
    check.report.say(f"`scripts/checks/kernels.py`, exit status {status}:\n\n" + block("\n".join(output.splitlines()[-200:])))
    check.report.check("kernels", f"exit status {status}", "0", status == 0)


# The arguments of the two jobs whose outputs are Fixtures/tiny/expected and Fixtures/tiny/expected-alt.
FIXTURE_JOBS = {
    "expected": ["--layers", 0, 1, 2, 3, "--model", "google/gemma-2-2b", "--model_path", f"{FIXTURES}/model", "--data_path", f"{FIXTURES}/authormix.jsonl",
                 "--sae_dir", f"{FIXTURES}/sae", "--n_docs_per_author", 6, "--batch_size", 4],
    "expected-alt": ["--layers", 2, "--model", "google/gemma-2-9b", "--model_path", f"{FIXTURES}/model-single", "--data_path", f"{FIXTURES}/authormix.jsonl",
                     "--sae_dir", f"{FIXTURES}/sae-lens", "--target_l0", 30, "--min_length_doc", 20, "--n_docs", 13,
                     "--exclude_authors", "harbour", "quarry works", "--batch_size", 3],
}


def compare_folders(check, reference, candidate, *flags):
    """Runs compare.py. Returns whether the folders agree, its last line, and its lines with failures."""
    status, output = check.run([sys.executable, "scripts/reference/compare.py", reference, candidate, *flags])
    lines = output.strip().splitlines() or ["no output"]
    return status == 0, lines[-1], [line for line in lines if line.startswith("FAIL")]


def fixture(check):
    report = check.report
    for name, arguments in FIXTURE_JOBS.items():
        expected = f"{FIXTURES}/{name}"
        folders = {}
        for device, dtype in (("cpu", None), ("cuda", "float32"), ("cuda", "bfloat16")):
            if dtype == "bfloat16" and check.options.pretend_cpu:
                continue
            try:
                folders[dtype or device] = check.extract(f"fixture-{name}-{dtype or device}", [*arguments, "--log_level", "warning"], device, dtype).folder
            except Failure as failure:
                report.say(block(str(failure)))
                report.check(f"{name}: {device} {dtype or ''}".rstrip(), "no results", holds=False)
        pairs = [("CPU against the reference", expected, folders.get("cpu"), ["--bytes"]),
                 ("GPU against the reference", expected, folders.get("float32"), ["--bytes"]),
                 ("GPU against CPU", folders.get("cpu"), folders.get("float32"), ["--bytes", "--max_flips", FLIPS])]
        for what, reference, candidate, flags in pairs:
            if reference and candidate:
                equal, line, complaints = compare_folders(check, reference, candidate, *flags)
                if complaints:
                    report.say(f"{name}, {what}:\n\n" + block("\n".join(complaints[:20])))
                report.check(f"{name}: {what}", line, holds=equal)
        if "bfloat16" in folders and "float32" in folders:
            _, line, complaints = compare_folders(check, folders["float32"], folders["bfloat16"], "--max_flips", 1)
            report.check(f"{name}: bfloat16 compared with float32", describe_bfloat16(line))
            wrong = [line for line in complaints if "off by more than the tolerance" not in line and "bits differ" not in line]
            report.check(f"{name}: bfloat16 writes the same texts, tokens and shapes", wrong[0] if wrong else "yes", holds=not wrong)


def describe_bfloat16(line):
    found = re.search(r"metrics: worst error (\S+) .*activations: (\d+) of (\d+) bits differ.*?(\d+) on in the reference", line)
    if not found:
        return line
    differing, on = int(found[2]), int(found[4])
    return f"worst metric error {found[1]}; {differing} of {found[3]} bits differ, {100 * differing / max(on, 1):.2f} % of the {on} that are on"


# ----------------------------------------------------------------------------- random model, SAEs and corpus
def memory_available():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/meminfo") if line.startswith("MemAvailable"))


def tensor_shapes(shape):
    """Returns the shapes of Gemma-2's tensors by name, [out, in]."""
    d, mlp = shape["hidden_size"], shape["intermediate_size"]
    heads, kv = (shape[key] * shape["head_dim"] for key in ("num_attention_heads", "num_key_value_heads"))
    tensors = {"model.embed_tokens.weight": (shape["vocab_size"], d)}
    for i in range(shape["num_hidden_layers"]):
        blocks = {"self_attn.q_proj": (heads, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d), "self_attn.o_proj": (d, heads),
                  "mlp.gate_proj": (mlp, d), "mlp.up_proj": (mlp, d), "mlp.down_proj": (d, mlp), "input_layernorm": (d,),
                  "post_attention_layernorm": (d,), "pre_feedforward_layernorm": (d,), "post_feedforward_layernorm": (d,)}
        tensors.update({f"model.layers.{i}.{name}.weight": size for name, size in blocks.items()})
    return tensors | {"model.norm.weight": (d,)}


def random_tensor(name, size, generator):
    """Returns random weights with which activations stay bounded: blocks add vectors of about unit size, and attention scores and
    logits vary."""
    values = torch.randn(size, generator=generator, device=generator.device)
    if name == "model.norm.weight":
        return 0.5 + 0.2 * values
    if "layernorm" in name:
        return 0.1 * values - (0.3 if "post_" in name else 0)
    sharper = 1.5 if "q_proj" in name or "k_proj" in name else 1
    return values * (sharper * size[1] ** -0.5)


def model_folder(work, scale, quick):
    """Returns the folder that contains the models, or a folder with enough room for them."""
    name = "sae-extract-gpu-check" + ("-quick" if quick else "")
    memory = pathlib.Path("/dev/shm") / name
    d, heads = scale.shape["hidden_size"], scale.shape["num_attention_heads"] * scale.shape["head_dim"]
    weights = sum(int(np.prod(size)) for size in tensor_shapes(scale.shape).values())
    saes = len(scale.layers) * 2 * scale.d_sae * (2 * d + heads)
    needed = 4 * (2 * weights + saes) + 1e9
    if (memory / "complete.json").exists():
        return memory
    if not (work / name / "complete.json").exists() and os.access(memory.parent, os.W_OK) \
            and shutil.disk_usage(memory.parent).free > needed and memory_available() > 2 * needed:
        return memory
    return work / name


def prepare(check):
    """Makes the models, the corpus and the SAEs, unless they exist."""
    folder, scale = check.models, check.scale
    stamp = {"format": FORMAT, "seed": SEED} | json.loads(json.dumps(dataclasses.asdict(scale)))
    complete = folder / "complete.json"
    if complete.exists() and json.loads(complete.read_text()) == stamp:
        return
    check.need(120, "making the random models")
    begin = time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_checkpoints(folder, scale.shape, check.device)
    check.report.log(f"checkpoints written, {time.perf_counter() - begin:.1f} s")
    write_corpus(folder / "corpus.jsonl", scale)
    check.report.log(f"corpus written, {time.perf_counter() - begin:.1f} s")
    make_saes(check)
    complete.write_text(json.dumps(stamp))
    check.report.say(f"Random models, SAEs and corpus made in {time.perf_counter() - begin:.0f} s.")
    check.free_memory()


def write_checkpoints(folder, shape, device):
    """Writes one random model twice, float32 in shards: `arbitrary` as drawn, `exact` with values rounded to bfloat16."""
    tensors = tensor_shapes(shape)
    shards = [{}]
    limit = 4 * sum(int(np.prod(size)) for size in tensors.values()) // 3
    for name, size in tensors.items():
        if shards[-1] and sum(end - begin for begin, end in shards[-1].values()) + 4 * int(np.prod(size)) > limit:
            shards.append({})
        begin = max((end for _, end in shards[-1].values()), default=0)
        shards[-1][name] = (begin, begin + 4 * int(np.prod(size)))
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    config = {
        "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "attention_bias": False, "attention_dropout": 0.0, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "cache_implementation": "hybrid",
        "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "initializer_range": 0.02, "max_position_embeddings": 8192,
        "query_pre_attn_scalar": shape["head_dim"], "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "float32",
        "transformers_version": "4.42.4", "use_cache": True} | shape
    index = {"metadata": {"total_size": sum(max(end for _, end in shard.values()) for shard in shards)},
             "weight_map": {name: file for file, shard in zip(names, shards) for name in shard}}
    for variant in ("exact", "arbitrary"):
        (folder / variant).mkdir()
        (folder / variant / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
        (folder / variant / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(ROOT / FIXTURES / "model" / file, folder / variant)
    generator = torch.Generator(device).manual_seed(SEED)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for file, shard in zip(names, shards):
            header = json.dumps({"__metadata__": {"format": "pt"}} | {
                name: {"dtype": "F32", "shape": tensors[name], "data_offsets": offsets} for name, offsets in shard.items()}).encode()
            header += b" " * (-len(header) % 8)
            start = 8 + len(header)
            files = {variant: os.open(folder / variant / file, os.O_CREAT | os.O_WRONLY, 0o644) for variant in ("exact", "arbitrary")}
            for descriptor in files.values():
                os.pwrite(descriptor, len(header).to_bytes(8, "little") + header, 0)
            pending = []
            for name, (begin, _) in shard.items():
                drawn = random_tensor(name, tensors[name], generator)
                for variant, values in (("arbitrary", drawn), ("exact", drawn.bfloat16().float())):
                    data = memoryview(values.cpu().numpy().reshape(-1)).cast("B")
                    for at in range(0, len(data), 1 << 26):
                        pending.append(pool.submit(write_at, files[variant], data[at:at + (1 << 26)], start + begin + at))
                while len(pending) > 64:
                    pending.pop(0).result()
            for job in pending:
                job.result()
            for descriptor in files.values():
                os.close(descriptor)


def write_at(descriptor, data, offset):
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def write_corpus(path, scale):
    """Writes documents of the fixture's words with AuthorMix's token counts. None is skipped: each has at least MIN_WORDS words."""
    chance = np.random.default_rng(SEED)
    tokenizer = tokenizers.Tokenizer.from_file(str(ROOT / FIXTURES / "model/tokenizer.json"))
    lines = (ROOT / FIXTURES / "authormix.jsonl").read_text(encoding="utf-8").split("\n")
    words = [word for line in lines if line.strip() for word in json.loads(line)["text"].split() if re.fullmatch(r"[A-Za-z]+[,.;!?]?", word)]
    sizes = {word: len(tokenizer.encode(" " + word, add_special_tokens=False).ids) for word in set(words)}
    short = [word for word in words if sizes[word] == 1]

    def document():
        tokens = int(np.interp(chance.random(), np.linspace(0, 1, len(TOKEN_LENGTHS)), TOKEN_LENGTHS))
        text = []
        while tokens > 0:
            # Takes a word of several tokens only if enough tokens remain for the words that are still needed.
            word = words[chance.integers(len(words))]
            if tokens - sizes[word] < max(0, MIN_WORDS - len(text) - 1):
                word = short[chance.integers(len(short))]
            text.append(word)
            tokens -= sizes[word]
        return " ".join(text)

    rows = [{"style": author_name(i), "text": document()} for _ in range(scale.documents) for i in range(scale.authors)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def author_name(number):
    return f"author-{number:02d}"


def token_ids(check, author, count):
    """Returns the tokenizer, and the first documents of an author as lists of IDs that start with <bos>."""
    tokenizer = tokenizers.Tokenizer.from_file(str(ROOT / FIXTURES / "model/tokenizer.json"))
    rows = map(json.loads, (check.models / "corpus.jsonl").read_text(encoding="utf-8").splitlines())
    texts = [row["text"] for row in rows if row["style"] == author][:count]
    return tokenizer, [tokenizer.encode(text).ids[:MAX_TOKENS] for text in texts]


def hooks(scale):
    return [(site, layer) for site in SITES for layer in scale.layers]


def sae_path(folder, site, layer):
    return folder / "saes" / f"gemma-scope-2b-pt-{site}" / f"layer_{layer}" / "width_16k" / f"average_l0_{MEAN_L0}" / "params.npz"


@torch.no_grad()
def make_saes(check):
    """Writes random SAEs whose thresholds are quantiles of the pre-activations on the last author's documents."""
    scale = check.scale
    model = load_model(check.models / "exact", check.device)
    _, sequences = token_ids(check, author_name(scale.authors - 1), scale.calibration_documents)
    seen = {hook: [] for hook in hooks(scale)}
    for ids in sequences:
        _, taps = run_model(model, torch.tensor([ids], device=check.device), scale.layers)
        for hook, values in taps.items():
            # Skips the first positions. Their values repeat between documents, so a threshold could equal a value
            # that occurs.
            seen[hook].append(values[0, 8:])
    del model
    generator = torch.Generator(check.device).manual_seed(SEED + 1)

    def uniform(low, high):
        return low + (high - low) * torch.rand(scale.d_sae, generator=generator, device=check.device)

    def normal(*size):
        return torch.randn(size, generator=generator, device=check.device)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = []
        for hook in hooks(scale):
            x = torch.cat(seen.pop(hook))
            count, d_in = x.shape
            encoder = normal(d_in, scale.d_sae) * (uniform(1.5, 5) / (x.square().mean().sqrt() * d_in**0.5))
            threshold = uniform(0.3, 3)
            rate = normal(scale.d_sae).exp()
            rate = (rate * (MEAN_L0 / rate.sum())).clamp(max=0.2)
            firing = (rate * count).round().long().clamp(min=1)
            highest = (x @ encoder).T.contiguous().topk(int(firing.max()) + 1, dim=1).values
            quantile = (highest.gather(1, firing[:, None] - 1) + highest.gather(1, firing[:, None]))[:, 0] / 2
            decoder = normal(scale.d_sae, d_in)
            parameters = {"W_enc": encoder, "W_dec": decoder / decoder.norm(dim=1, keepdim=True), "b_enc": threshold.clamp(min=1) - quantile,
                          "b_dec": 0.5 * normal(d_in), "threshold": threshold}
            path = sae_path(check.models, *hook)
            path.parent.mkdir(parents=True)
            jobs.append(pool.submit(np.savez, path, **{name: values.cpu().numpy() for name, values in parameters.items()}))
        for job in jobs:
            job.result()


# ----------------------------------------------------------------------------- the Python side
def load_model(folder, device):
    """Loads transformers' Gemma-2 in float32 with eager attention and without TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    model.requires_grad_(False)
    model.tie_weights()
    parameters = dict(model.named_parameters())
    for file in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(file, framework="pt", device=device) as tensors:
            for name in tensors.keys():
                parameters.pop(name).copy_(tensors.get_tensor(name))
    if parameters:
        raise Failure(f"{folder} lacks {', '.join(parameters)}")
    return model


@torch.no_grad()
def run_model(model, ids, layers):
    """Returns the logits and the activations at the hooks: {(site, layer): (batch, position, d)}."""
    taps, handles = {}, []

    def output_of(hook):
        return lambda _module, _arguments, output: taps.__setitem__(hook, output[0] if isinstance(output, tuple) else output)

    def input_of(hook):
        return lambda _module, arguments: taps.__setitem__(hook, arguments[0])

    for layer in layers:
        decoder = model.model.layers[layer]
        handles += [decoder.register_forward_hook(output_of(("res", layer))),
                    decoder.post_feedforward_layernorm.register_forward_hook(output_of(("mlp", layer))),
                    decoder.self_attn.o_proj.register_forward_pre_hook(input_of(("att", layer)))]
    try:
        logits = model(input_ids=ids, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    return logits, taps


@torch.no_grad()
def run_float64(model, ids, layers):
    """Returns the same for one document, all in float64 and plain torch (transformers computes norms and softmax in float32)."""
    config = model.config
    parameters = dict(model.named_parameters())
    heads, kv, d_head = config.num_attention_heads, config.num_key_value_heads, config.head_dim
    eps, cap, final_cap, scalar = config.rms_norm_eps, config.attn_logit_softcapping, config.final_logit_softcapping, config.query_pre_attn_scalar
    theta = (getattr(config, "rope_parameters", None) or {}).get("rope_theta") or config.rope_theta
    n = ids.shape[-1]
    if n > config.sliding_window:
        raise Failure("documents are longer than the sliding window, which the float64 pass does not support")

    def weight(name):
        return parameters[f"model.{name}.weight"].double()

    def norm(values, name):
        return values * torch.rsqrt(values.square().mean(-1, keepdim=True) + eps) * (1 + weight(name))

    def split(values, count):
        return values.view(n, count, d_head).transpose(0, 1)

    def rotate(values):
        a, b = values.chunk(2, dim=-1)
        return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], dim=-1)

    half = torch.arange(0, d_head, 2, device=ids.device, dtype=torch.float64) / d_head
    angles = torch.arange(n, device=ids.device, dtype=torch.float64)[:, None] * theta**-half
    later = torch.ones(n, n, device=ids.device, dtype=torch.bool).triu(1)
    taps = {}
    x = parameters["model.embed_tokens.weight"][ids].double() * config.hidden_size**0.5
    for i in range(config.num_hidden_layers):
        at = f"layers.{i}."
        h = norm(x, at + "input_layernorm")
        q, k, v = (split(h @ weight(at + f"self_attn.{name}_proj").T, count) for name, count in (("q", heads), ("k", kv), ("v", kv)))
        k, v = (part.repeat_interleave(heads // kv, dim=0) for part in (rotate(k), v))
        scores = cap * torch.tanh(rotate(q) @ k.transpose(1, 2) * scalar**-0.5 / cap)
        z = (scores.masked_fill(later, -torch.inf).softmax(-1) @ v).transpose(0, 1).reshape(n, heads * d_head)
        x = x + norm(z @ weight(at + "self_attn.o_proj").T, at + "post_attention_layernorm")
        h = norm(x, at + "pre_feedforward_layernorm")
        h = torch.nn.functional.gelu(h @ weight(at + "mlp.gate_proj").T, approximate="tanh") * (h @ weight(at + "mlp.up_proj").T)
        added = norm(h @ weight(at + "mlp.down_proj").T, at + "post_feedforward_layernorm")
        x = x + added
        if i in layers:
            taps |= {("res", i): x, ("mlp", i): added, ("att", i): z}
    return final_cap * torch.tanh(norm(x, "norm") @ weight("embed_tokens").T / final_cap), taps


def metrics(logits, ids):
    """Returns cross-entropy and entropy of (position, vocabulary) logits at the positions after <bos>, as in the output files."""
    log_p = torch.log_softmax(logits, dim=-1)
    cross_entropy = -log_p[:-1].gather(-1, ids[1:, None])[:, 0]
    p = log_p[1:].exp()
    entropy = -(p * torch.log(p + 1e-12)).sum(-1)
    return cross_entropy.double().cpu().numpy(), entropy.double().cpu().numpy()


def load_saes(check):
    """Returns {hook: (W_enc, b_enc, threshold)}, on the device."""
    saes = {}
    for hook in hooks(check.scale):
        with np.load(sae_path(check.models, *hook)) as file:
            saes[hook] = tuple(torch.from_numpy(file[name]).to(check.device) for name in ("W_enc", "b_enc", "threshold"))
    return saes


# ----------------------------------------------------------------------------- parity
class Outputs:
    """The files of one author in a run with sparse raw activations; gives the activations of one document at a time."""

    def __init__(self, folder, author, scale):
        start = f"{folder}/sae__google_gemma-2-2b__"
        self.d_sae = scale.d_sae
        self.metrics = [np.load(f"{start}{name}__{author}.npy") for name in ("cross_entropy_loss", "entropy_loss")]
        self.tokens = json.loads(pathlib.Path(f"{start}tokens__{author}.json").read_text(encoding="utf-8"))
        self.activations = {}
        for site, layer in hooks(scale):
            with np.load(f"{start}{site}__activations__{author}__layer_{layer}.sparse.npz", allow_pickle=True) as file:
                self.activations[site, layer] = {name: file[name] for name in ("data", "indices", "indptr")}
                self.lengths = file["metadata"].item()["tokens_per_doc"]

    def dense(self, hook, document, length, device):
        """Returns the activations (length, d_sae) of a document, 0 where a feature does not fire."""
        file = self.activations[hook]
        first = document * self.metrics[0].shape[1]
        starts = file["indptr"][first:first + length + 1]
        rows = np.repeat(np.arange(length), np.diff(starts))
        dense = torch.zeros(length, self.d_sae, device=device)
        columns = torch.from_numpy(file["indices"][starts[0]:starts[-1]].astype(np.int64)).to(device)
        dense[torch.from_numpy(rows).to(device), columns] = torch.from_numpy(file["data"][starts[0]:starts[-1]]).to(device)
        return dense


def fires(pre, threshold):
    return (pre > threshold) & (pre > 1)


@dataclasses.dataclass
class Comparison:
    """The differences of bits, activations and metrics from those of a reference."""

    bits: int = 0
    on: int = 0
    differing: int = 0
    far: int = 0  # differing bits that are further than MARGIN from the threshold
    worst_margin: float = 0.0
    values: int = 0
    squares: float = 0.0
    worst_value: float = 0.0
    metrics: int = 0
    worst_metric: float = 0.0  # beyond the rounding to float16
    metrics_off: int = 0
    metrics_other: int = 0  # values that differ from the reference rounded to float16

    def features(self, pre, sae, activations):
        """`pre`: the reference's pre-activations. `activations`: those of the other side, 0 if a feature does not fire."""
        _, bias, threshold = sae
        scale = (pre - bias).square().mean().sqrt()
        expected, got = fires(pre, threshold), activations != 0
        margins = ((pre - threshold.clamp(min=1)).abs() / scale)[expected != got]
        self.bits += expected.numel()
        self.on += int(expected.sum())
        self.differing += len(margins)
        self.far += int((margins > MARGIN).sum())
        self.worst_margin = max(self.worst_margin, float(margins.max()) if len(margins) else 0)
        both = expected & got
        errors = ((activations - pre).double() / scale)[both]
        self.values += len(errors)
        self.squares += float(errors.square().sum())
        self.worst_value = max(self.worst_value, float(errors.abs().max()) if len(errors) else 0)

    def metric(self, reference, got):
        """Adds the values of a metric; `got` is float16, as in the output files."""
        rounded = reference.astype(np.float16)
        half_step = 0.5 * np.spacing(np.abs(rounded)).astype(np.float64)
        beyond = np.maximum(np.abs(got.astype(np.float64) - reference) - half_step, 0)
        self.metrics += len(got)
        self.worst_metric = max(self.worst_metric, float(beyond.max()))
        self.metrics_off += int((~(beyond <= METRIC_ABSOLUTE + METRIC_RELATIVE * np.abs(reference))).sum())
        self.metrics_other += int((rounded != got).sum())

    def value_error(self):
        return (self.squares / max(self.values, 1)) ** 0.5

    def holds(self):
        return bool(self.on and self.differing <= max(3, FLIPS * self.bits) and not self.far and not self.metrics_off)

    HEAD = ("compared", "with", "bits", "on", "differ", "furthest from the threshold", "activations, rms error", "worst", "metrics, worst beyond float16",
            "other float16")

    def row(self, what, reference):
        return (what, reference, f"{self.bits:,}", f"{self.on:,}", self.differing, f"{self.worst_margin:.1e}", f"{self.value_error():.2e}", f"{self.worst_value:.1e}",
                f"{self.worst_metric:.1e}", f"{100 * self.metrics_other / max(self.metrics, 1):.2f} %")


def parity(check):
    report, scale = check.report, check.scale
    prepare(check)
    check.need(60, "parity")
    author = author_name(0)
    arguments = ["--include_authors", author, "--activation_values", "raw", "--storage_format", "sparse", "--log_level", "info"]
    candidates = {}
    for name, variant, dtype in (("float32, exact", "exact", "float32"), ("float32, arbitrary", "arbitrary", "float32"), ("bfloat16", "exact", "bfloat16")):
        if dtype == "bfloat16" and check.options.pretend_cpu:
            continue
        try:
            run = check.extract(f"parity-{name.replace(', ', '-')}", [*check.model_arguments(variant), *arguments], "cuda", dtype)
            candidates[name] = (variant, Outputs(run.folder, author, scale))
        except (Failure, OSError, KeyError) as failure:
            report.say(block(f"{type(failure).__name__}: {failure}"))
            report.check(f"parity, {name}", "no results", holds=False)
    tokenizer, sequences = token_ids(check, author, scale.parity_documents)
    for name, (_, outputs) in candidates.items():
        pieces = [[tokenizer.id_to_token(i) for i in ids[1:]] for ids in sequences]
        same = all(outputs.tokens[d][:len(row)] == row and outputs.lengths[d] == len(row) for d, row in enumerate(pieces))
        report.check(f"parity, {name}: tokens of {len(pieces)} documents", "equal" if same else "differ", holds=same)
    report.say(f"{len(sequences)} documents of {sum(map(len, sequences)) - len(sequences)} tokens against transformers {transformers.__version__} in float32, the first "
               f"{scale.float64_documents} also against float64. Distances and errors are relative to the root mean square of the pre-activations without bias; "
               f"errors of metrics count only beyond half a float16 step. Accepted: {FLIPS:g} of the bits, none further than {MARGIN:g} from its threshold; metrics {METRIC_ABSOLUTE:g} + "
               f"{METRIC_RELATIVE:g} of the value.")
    saes = load_saes(check)
    for variant in ("exact", "arbitrary"):
        ours = {name: outputs for name, (of, outputs) in candidates.items() if of == variant}
        if ours:
            compare_with_torch(check, variant, ours, sequences, saes)
        check.free_memory()


@torch.no_grad()
def compare_with_torch(check, variant, ours, sequences, saes):
    report, scale, device = check.report, check.scale, check.device
    check.need(20, f"parity of {variant}")
    begin = time.perf_counter()
    model = load_model(check.models / variant, device)
    loaded = time.perf_counter() - begin
    single = {name: Comparison() for name in ours}
    double = {name: Comparison() for name in ["torch float32", *ours]}
    for d, row in enumerate(sequences):
        ids = torch.tensor(row, device=device)
        n = len(row) - 1
        logits, taps = run_model(model, ids[None], scale.layers)
        expected = metrics(logits[0], ids)
        activations = {(name, hook): outputs.dense(hook, d, n, device) for name, outputs in ours.items() for hook in saes}
        files = {name: [values[d, :n] for values in outputs.metrics] for name, outputs in ours.items()}
        for hook, (encoder, bias, threshold) in saes.items():
            pre = taps[hook][0, 1:] @ encoder + bias
            for name in ours:
                single[name].features(pre, saes[hook], activations[name, hook])
            activations["torch float32", hook] = pre * fires(pre, threshold)
        for name in ours:
            for reference, got in zip(expected, files[name]):
                single[name].metric(reference, got)
        if d >= scale.float64_documents:
            continue
        files["torch float32"] = [values.astype(np.float16) for values in expected]
        logits, taps = run_float64(model, ids, scale.layers)
        expected = metrics(logits, ids)
        for hook, (encoder, bias, _) in saes.items():
            pre = taps[hook][1:] @ encoder.double() + bias.double()
            for name, comparison in double.items():
                comparison.features(pre, saes[hook], activations[name, hook])
        for name, comparison in double.items():
            for reference, got in zip(expected, files[name]):
                comparison.metric(reference, got)
    rows = [comparison.row(name, "torch float32") for name, comparison in single.items()]
    rows += [comparison.row(name, "float64") for name, comparison in double.items()]
    report.say(f"{variant} checkpoint, {time.perf_counter() - begin:.0f} s, of which {loaded:.0f} s for loading it into torch:\n\n" + table([Comparison.HEAD, *rows]))
    for name, comparison in single.items():
        result = (f"{comparison.differing} of {comparison.bits:,} bits differ ({100 * comparison.differing / max(comparison.on, 1):.2g} % of those on), "
                  f"{comparison.far} of them far; metrics within {comparison.worst_metric:.1e}")
        judged = name.startswith("float32")
        report.check(f"parity, {name}", result, f"{FLIPS:g} of the bits, none far" if judged else "", comparison.holds() if judged else None)
        torch_error, our_error = double["torch float32"].value_error(), double[name].value_error()
        report.check(f"error against float64, {name}", f"activations {our_error:.2e}, torch's float32 {torch_error:.2e}: {our_error / max(torch_error, 1e-30):.1f} times; "
                     f"bits {double[name].differing}, torch's {double['torch float32'].differing}")


# ----------------------------------------------------------------------------- throughput
def throughput(check):
    report, scale = check.report, check.scale
    prepare(check)
    targets = not check.options.quick
    rows = [("run", "tokens", "tokens/s, model and SAEs", "tokens/s, first to last batch", "target", "loading, s", "model, s", "writing, s", "in all, s", "gaps", "verdict", "card")]
    authors = [author_name(i) for i in range(scale.throughput_authors)]
    for name, variant, dtype in (("float32, exact", "exact", "float32"), ("float32, arbitrary", "arbitrary", "float32"), ("bfloat16", "exact", "bfloat16")):
        if dtype == "bfloat16" and check.options.pretend_cpu:
            continue
        try:
            check.need(30, f"throughput, {name}")
            run = check.extract("throughput", [*check.model_arguments(variant), "--include_authors", *authors, "--storage_format", "sparse"], "cuda", dtype)
        except Failure as failure:
            report.say(block(str(failure)))
            report.check(f"throughput, {name}", "no result", f"{TARGETS[name]:,} tokens/s", False)
            continue
        rates = run.rates()
        rate = min((value for value in rates if value), default=0)
        holds = rate >= TARGETS[name] if targets else None
        rows.append((name, f"{run.json['tokens_computed']:,}", *(f"{value:,.0f}" if value else "n/a" for value in rates), f"{TARGETS[name]:,}", seconds_text(run.seconds("loading")),
                     seconds_text(run.seconds("model")), seconds_text(run.seconds("writing")), f"{run.wall:.1f}", run.gaps(),
                     {True: "pass", False: "FAIL", None: "–"}[holds], check.card))
        report.check(f"throughput, {name}", f"{rate:,.0f} tokens/s (the lower of two), gaps {run.gaps()}; {run.description()}", f"{TARGETS[name]:,} tokens/s", holds)
        shutil.rmtree(run.folder)
    report.say(f"{scale.throughput_authors} authors of {scale.documents} documents, layers {' '.join(map(str, scale.layers))}, sparse files. "
               f"The first rate divides by the seconds that the program waited for results (in its last log line), the second by the time on the card's clock; the lower rate counts.\n\n{table(rows)}")
    ours = step(report, "the whole default job", lambda: whole_job(check, targets))
    theirs = step(report, "the Python pipeline", lambda: python_pipeline(check))
    if ours and theirs:
        report.check("documents/s compared with the Python pipeline", f"{ours:.1f} and {theirs:.2f}: {ours / theirs:.0f} times", f"{TARGET_RATIO} times",
                     ours / theirs >= TARGET_RATIO if targets else None)


def step(report, what, action):
    """Returns the result of `action`. If it fails, adds a failed row and returns None."""
    try:
        return action()
    except Failure as failure:
        report.say(block(str(failure)))
        report.check(what, "no result", holds=False)
        return None


def whole_job(check, targets):
    """Returns documents/s of the default job, including loading and writing dense files."""
    scale = check.scale
    check.need(60, "the whole default job")
    run = check.extract("whole-job", check.model_arguments("exact"))
    files = [path for path in run.folder.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    documents = scale.authors * scale.documents
    computed = sum(author["documents"] for author in run.json["authors"])
    expected = scale.authors * (3 * len(scale.layers) + 4) + 1
    check.report.say(f"The whole default job: {scale.authors} authors of {scale.documents} documents, {run.json['tokens_computed']:,} tokens, "
                     f"{len(files)} files of {size / 1e9:.2f} GB, dense. {run.wall:.1f} s in all, of it loading {seconds_text(run.seconds('loading'))}, model {seconds_text(run.seconds('model'))}, "
                     f"writing {seconds_text(run.seconds('writing'))}; gaps {run.gaps()}; {run.description()}. Card: {check.card}.\n\n"
                     + block("\n".join(run.output.splitlines()[-3:])))
    check.report.check("the whole default job, start to end", f"{run.wall:.1f} s, {documents / run.wall:.1f} documents/s", f"{TARGET_SECONDS} s",
                       run.wall < TARGET_SECONDS if targets else None)
    check.report.check("the whole default job: documents and files", f"{computed} documents, {len(files)} files", f"{documents}, {expected}",
                       computed == documents and len(files) == expected)
    shutil.rmtree(run.folder)
    return documents / run.wall


@torch.no_grad()
def python_pipeline(check):
    """Returns documents/s of the same work in Python: padded batches, dense activations on the host, numpy.savez_compressed."""
    report, scale, device = check.report, check.scale, check.device
    check.need(60, "the Python pipeline")
    model = load_model(check.models / "exact", device)
    saes = load_saes(check)
    count, batch = scale.pipeline_documents, scale.pipeline_batch
    _, sequences = token_ids(check, author_name(0), count)
    padded = torch.tensor([row + [0] * (MAX_TOKENS - len(row)) for row in sequences], device=device)
    run_model(model, padded[:1], scale.layers)  # warms up
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    begin = time.perf_counter()
    activations = {hook: np.zeros((count, MAX_TOKENS - 1, scale.d_sae), np.float32) for hook in saes}
    losses = np.zeros((2, count, MAX_TOKENS - 1), np.float16)
    for at in range(0, count, batch):
        ids = padded[at:at + batch]
        logits, taps = run_model(model, ids, scale.layers)
        for d in range(len(ids)):
            losses[:, at + d] = metrics(logits[d], ids[d])
        real = (torch.arange(1, MAX_TOKENS, device=device) < torch.tensor([[len(row)] for row in sequences[at:at + batch]], device=device))[..., None]
        for hook, (encoder, bias, threshold) in saes.items():
            pre = taps[hook][:, 1:] @ encoder + bias
            activations[hook][at:at + batch] = (fires(pre, threshold) & real).float().cpu().numpy()
    wait()
    computed = time.perf_counter() - begin
    for (site, layer), values in activations.items():
        np.savez_compressed(check.work / "pipeline.npz", activations=values)
    (check.work / "pipeline.npz").unlink()
    total = time.perf_counter() - begin
    del model, saes
    check.free_memory()
    report.say(f"The Python pipeline (transformers float32 without TF32, {batch} documents a batch padded to {MAX_TOKENS} tokens, dense activations copied "
               f"to the host, `np.savez_compressed` for each hook): {count} documents in {total:.1f} s, {computed:.1f} s of it before the files; loading is not "
               f"counted. The time is proportional to the number of documents, so {scale.authors * scale.documents} documents would take {total / count * scale.authors * scale.documents / 60:.0f} minutes. Card: {check.card}.")
    report.check("the Python pipeline", f"{count / total:.2f} documents/s, {total / count:.2f} s for a document")
    return count / total


# ----------------------------------------------------------------------------- main
PARTS = {"environment": environment, "kernels": kernels, "fixture": fixture, "parity": parity, "throughput": throughput}


def part_names(text):
    """Parses `fixture,parity`, or the letters of the parts in their order: `c,d`."""
    letters = dict(zip("abcde", PARTS))
    names = [letters.get(name, name) for name in text.split(",")]
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"unknown part {name}; the parts are {', '.join(PARTS)}")
    return names


def parse():
    parser = argparse.ArgumentParser(prog="gpu-check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=pathlib.Path(".build/release/sae-extract"))
    parser.add_argument("--report", type=pathlib.Path, default=pathlib.Path("docs/gpu-report.md"))
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path(".build/gpu-check"), help="folder for outputs, and for the models if /dev/shm has no room")
    parser.add_argument("--parts", type=part_names, default=list(PARTS), help="comma-separated, by name or as a to e")
    parser.add_argument("--budget", type=float, default=540, metavar="SECONDS", help="time limit: afterwards nothing new is started and running commands are ended (default: 540)")
    parser.add_argument("--quick", action="store_true", help="a small model")
    parser.add_argument("--pretend-cpu", action="store_true", help="without a GPU: does not pass --device and --dtype; torch computes on the CPU")
    parser.add_argument("--commit", help="the commit of the files, on a host without their git history")
    parser.add_argument("--clean", action="store_true", help="remove the random models at the end")
    return parser.parse_args()


def main():
    check = Check(parse())
    report = check.report
    for name in check.options.parts:
        begin = time.perf_counter()
        before = len(report.failed())
        report.say(f"## {name}")
        try:
            check.need(5, name)
            PARTS[name](check)
        except Exception as error:  # the other parts must still run
            trace = "" if isinstance(error, Failure) else traceback.format_exc()
            report.say(block(trace or str(error)))
            report.check(name, (str(error) or type(error).__name__).splitlines()[0][:200].replace("|", "/"), holds=False)
        failed = len(report.failed()) - before
        report.say(f"{name}: {f'{failed} failed' if failed else 'passed'}, {time.perf_counter() - begin:.1f} s.")
        check.free_memory()
    shutil.rmtree(check.work / "out", ignore_errors=True)
    if check.options.clean:
        shutil.rmtree(check.models, ignore_errors=True)
    elif check.models.exists():
        report.log(f"the random models remain in {check.models}; --clean removes them")
    print("\n" + table([("check", "result", "target", "verdict"), *report.summary]))
    report.log(f"report in {report.path}; " + (f"failed: {', '.join(report.failed())}" if report.failed() else "nothing failed"))
    sys.exit(1 if report.failed() else 0)


if __name__ == "__main__":
    main()
