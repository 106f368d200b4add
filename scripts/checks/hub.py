"""Checks huggingface_hub and sae-extract with one server and one cache, in the folder given. Called by scripts/checks/hub."""
import hashlib
import json
import os
import subprocess
import sys
import urllib.request

work = sys.argv[1]
repository = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
tiny = repository + "/Fixtures/tiny"
program = os.environ.pop("SAE_EXTRACT")
sites = ("res", "mlp", "att")
root = work + "/root"
os.makedirs(root + "/models/google")
os.makedirs(root + "/datasets/hallisky/AuthorMix")
os.symlink(tiny + "/model", root + "/models/google/gemma-2-2b")
os.symlink(tiny + "/model-single", root + "/models/google/gemma-2-2b@v1.0")
for site in sites:
    os.symlink(f"{tiny}/sae/gemma-scope-2b-pt-{site}", f"{root}/models/google/gemma-scope-2b-pt-{site}")
os.symlink(tiny + "/authormix.jsonl", root + "/datasets/hallisky/AuthorMix/train.jsonl")
server = subprocess.Popen(
    [repository + "/scripts/fakes/hub-server", root, "--lfs_above", "100000", "--page", "7", "--token", "hf_good", "--denied_token",
     "hf_poor", "--gated", "google/gemma-2-2b", "--until_eof"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
endpoint = json.loads(server.stdout.readline())["endpoint"]
os.environ.update(HF_ENDPOINT=endpoint, HF_TOKEN="hf_good", HF_HOME=work + "/unused")

import huggingface_hub
from huggingface_hub import errors
from huggingface_hub import HfApi, hf_hub_download, scan_cache_dir, snapshot_download

MODEL = ("google/gemma-2-2b", "model")
REPOSITORIES = [MODEL, *((f"google/gemma-scope-2b-pt-{site}", "model") for site in sites), ("hallisky/AuthorMix", "dataset")]
JOB = ["--layers", "0", "1", "2", "3", "--n_docs_per_author", "6", "--batch_size", "4"]
# huggingface_hub 1 and later has a separate error class for a file that a repository does not contain.
NoFile = getattr(errors, "RemoteEntryNotFoundError", errors.EntryNotFoundError)


def folder_of(id, kind):
    return f"{root}/{kind}s/{id}"


def files_in(folder):
    return {os.path.relpath(os.path.join(base, name), folder): open(os.path.join(base, name), "rb").read()
            for base, _, names in os.walk(folder, followlinks=True) for name in names}


def log(clear=False):
    request = urllib.request.Request(endpoint + "/__log", method="DELETE" if clear else "GET")
    return json.load(urllib.request.urlopen(request))


def bodies():
    return [entry["path"] for entry in log() if entry["method"] == "GET" and (entry["port"] == "storage" or "/resolve" in entry["path"])]


def sae_extract(home, *arguments, status=0, **environment):
    environment = dict(os.environ, HF_HOME=home, SAE_EXTRACT_RETRY_SECONDS="0.05", **environment)
    done = subprocess.run([program, *arguments], env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == status, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stderr


def results(folder):
    return {name: hashlib.sha256(content).digest() for name, content in files_in(folder).items()
            if "/" not in name and name != "run.json"}


def raises(kind, body):
    try:
        body()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")


def check_scan(home, count):
    scan = scan_cache_dir(home + "/hub")
    assert not scan.warnings, scan.warnings
    assert len(scan.repos) == count, [repo.repo_id for repo in scan.repos]


# 1. huggingface_hub can use the server as the Hub.
api = HfApi()
for id, kind in REPOSITORIES:
    expected = files_in(folder_of(id, kind))
    info = api.repo_info(id, repo_type=kind)
    assert {sibling.rfilename for sibling in info.siblings} == set(expected)
    listed = {entry.path: entry for entry in api.list_repo_tree(id, recursive=True, repo_type=kind) if hasattr(entry, "blob_id")}
    assert {path: entry.size for path, entry in listed.items()} == {path: len(content) for path, content in expected.items()}
    found = snapshot_download(id, repo_type=kind, cache_dir=work + "/python/hub")
    assert files_in(found) == expected
raises(errors.GatedRepoError, lambda: hf_hub_download(*MODEL[:1], "config.json", token=False, cache_dir=work + "/x"))
raises(errors.GatedRepoError, lambda: hf_hub_download(*MODEL[:1], "config.json", token="hf_poor", cache_dir=work + "/x"))
raises(errors.RepositoryNotFoundError, lambda: api.model_info("google/gemma-3-2b"))
raises(errors.RevisionNotFoundError, lambda: api.model_info(MODEL[0], revision="v9"))
raises(NoFile, lambda: hf_hub_download(MODEL[0], "nothing.json", cache_dir=work + "/x"))

sae_extract(work + "/none", *JOB, "--model_path", tiny + "/model", "--sae_dir", tiny + "/sae", "--data_path", tiny + "/authormix.jsonl",
            "--save_dir", work + "/local", "--log_level", "error")
expected = results(work + "/local")
assert len(expected) == 80

# 2. huggingface_hub finds the files that sae-extract downloads. The files must be complete, and huggingface_hub must
#    not report a warning or download the files again.
home = work + "/ours"
sae_extract(home, "saes", "--layers", "0")
check_scan(home, 3)
sae_extract(home, "fetch", *JOB, "--dry_run")
check_scan(home, 5)
# The cache has only the files that --dry_run needs, so huggingface_hub must not treat the snapshots as complete.
for id, kind in REPOSITORIES[1:]:
    raises(errors.LocalEntryNotFoundError, lambda: snapshot_download(id, repo_type=kind, cache_dir=home + "/hub", local_files_only=True))
sae_extract(home, "fetch", *JOB)
check_scan(home, 5)
sae_extract(home, *JOB, "--save_dir", work + "/out")
assert results(work + "/out") == expected
count = 0
for id, kind in REPOSITORIES:
    found = snapshot_download(id, repo_type=kind, cache_dir=home + "/hub", local_files_only=True)
    content = files_in(found)
    theirs = files_in(folder_of(id, kind))
    assert content and all(theirs[path] == bytes for path, bytes in content.items()), id
    for path in content:
        assert hf_hub_download(id, path, repo_type=kind, cache_dir=home + "/hub", local_files_only=True) == f"{found}/{path}"
        count += 1
assert count == 6 + 12 + 1, count
log(clear=True)
for id, kind in REPOSITORIES:
    snapshot_download(id, repo_type=kind, cache_dir=home + "/hub")
asked = bodies()
assert any("average_l0_13" in path for path in asked) and not any("model-0000" in path or "average_l0_46" in path for path in asked), asked
sae_extract(home, "fetch", *JOB, "--revision", "v1.0")
check_scan(home, 5)

# 3. sae-extract finds the files that huggingface_hub has downloaded, with and without the network.
home = work + "/python"
log(clear=True)
sae_extract(home, *JOB, "--save_dir", work + "/online")
assert results(work + "/online") == expected and not bodies(), bodies()
sae_extract(home, *JOB, "--save_dir", work + "/offline", HF_HUB_OFFLINE="1")
assert results(work + "/offline") == expected
check_scan(home, 5)
# Downloads single files, so the cache has no list of the repository's files.
home = work + "/single"
for name in ("config.json", "tokenizer.json", "model.safetensors.index.json", *(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3))):
    hf_hub_download(MODEL[0], name, cache_dir=home + "/hub")
for site, l0 in (("res", 51), ("mlp", 45), ("att", 36)):
    hf_hub_download(f"google/gemma-scope-2b-pt-{site}", f"layer_2/width_16k/average_l0_{l0}/params.npz", cache_dir=home + "/hub")
hf_hub_download("hallisky/AuthorMix", "train.jsonl", repo_type="dataset", cache_dir=home + "/hub")
said = sae_extract(home, "--layers", "2", *JOB[5:], "--save_dir", work + "/some", HF_HUB_OFFLINE="1")
assert "only the SAEs in the cache are known" in said, said
some = results(work + "/some")
assert len(some) == 35 and all(expected[name] == digest for name, digest in some.items())
said = sae_extract(home, "--layers", "1", "--save_dir", work + "/none", HF_HUB_OFFLINE="1", status=69)
assert "the requested SAE of google/gemma-scope-2b-pt-res is not in the cache" in said and "sae-extract fetch --layers 1" in said, said
assert "the list of its files is not known; check that these files are the whole corpus: train.jsonl" in sae_extract(home, "--layers", "2", "--save_dir", work + "/some", *JOB[5:], HF_HUB_OFFLINE="1")

# 4. Both programs use one cache at the same time.
home = work + "/both"
ours = [subprocess.Popen([program, "fetch", *JOB], env=dict(os.environ, HF_HOME=home),
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(4)]
for id, kind in REPOSITORIES:
    assert files_in(snapshot_download(id, repo_type=kind, cache_dir=home + "/hub")) == files_in(folder_of(id, kind))
for process in ours:
    _, said = process.communicate()
    assert process.returncode == 0, said
check_scan(home, 5)

server.stdin.close()
server.wait()
print(f"huggingface_hub {huggingface_hub.__version__}: the server, the cache in both directions, and simultaneous use are correct")
