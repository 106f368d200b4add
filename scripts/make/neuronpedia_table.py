"""Makes Sources/C/CReport/neuronpedia.json, the table of the Gemma Scope SAEs that have pages on neuronpedia.org.

The source is the list of pretrained SAEs in the sae-lens package. Before running this script:
`pip install --no-deps sae-lens` and `pip install pyyaml`.
"""

import importlib.metadata
import json
import os

import yaml

package = importlib.metadata.distribution("sae-lens")
listing = yaml.safe_load(package.locate_file("sae_lens/pretrained_saes.yaml").read_text())
table = {f"gemma-scope-{size}-pt-{site}": {} for size in ("2b", "9b") for site in ("res", "mlp", "att")}
for release in listing.values():
    pages = table.get(str(release.get("repo_id", "")).removeprefix("google/"))
    if pages is None:
        continue
    for sae in release["saes"]:
        page = sae.get("neuronpedia")
        # A canonical SAE is listed a second time under its canonical name. The table takes the page of that name,
        # because it explains all features.
        if page and ("__l0-" not in page or sae["path"] not in pages):
            pages[sae["path"]] = page
root = os.path.join(os.path.dirname(__file__), "../..")
with open(os.path.join(root, "Sources/C/CReport/neuronpedia.json"), "w", encoding="utf-8") as file:
    json.dump({"source": f"sae-lens {package.version}", **{k: dict(sorted(v.items())) for k, v in table.items()}}, file, indent=1)
    file.write("\n")
print({repository: len(pages) for repository, pages in table.items()})
