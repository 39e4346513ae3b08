#!/usr/bin/env bash
# grain's MapDataset.mix counts rows that a filter has dropped.
#
# Guess:  grain.MapDataset.mix([a, b], weights=[0.5, 0.5]) gives as many examples of a as of b, also
#         where a was filtered before: weights are shares of what comes out.
# Seen:   with grain 0.2.18 a filtered MapDataset keeps the places of the rows that it drops, and mix
#         deals out places: if the filter keeps a tenth of a, there is one example of a to ten of b. So
#         weights of sources that are filtered by length or quality are not those of the training. Made
#         IterDatasets first and mixed then, they come out as wanted.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile grain==0.2.18 \
    "numpy==2.5.5; python_version >= '3.12'" "numpy==2.4.6; python_version < '3.12'"
JAX_PLATFORMS=cpu "$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import grain

for name in ("grain", "numpy"):
    print(name, importlib.metadata.version(name))


def sources():
    """Return a source whose filter keeps a tenth, and one of other numbers."""
    kept = grain.MapDataset.source(list(range(2000))).filter(lambda x: x % 10 == 0)
    return kept, grain.MapDataset.source([-1] * 2000)


def share(mixed):
    """Return the share of the first source among the first hundred examples."""
    rows = iter(mixed)
    return sum(next(rows) >= 0 for _ in range(100)) / 100


half = [0.5, 0.5]
seen = {
    "MapDataset.mix": share(grain.MapDataset.mix(sources(), half).to_iter_dataset()),
    "IterDataset.mix": share(
        grain.IterDataset.mix([source.to_iter_dataset() for source in sources()], half)
    ),
}
for name, value in seen.items():
    print(f"{name}: share {value} of the first source, weight 0.5")
if not (0.05 < seen["MapDataset.mix"] < 0.15 and seen["IterDataset.mix"] == 0.5):
    sys.exit("the behaviour has changed: what the weights of MapDataset.mix count")
PYTHON
