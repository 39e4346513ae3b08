#!/usr/bin/env bash
# One number of 20 digits in a JSON file makes floats of all numbers at its place, in every row.
#
# Guess:  load_dataset("json") refuses a whole number beyond 63 bits with an error, or keeps it in the
#         Json type that it has for values of mixed kinds; the other rows stay as they are.
# Seen:   with datasets 5.2.0 (pyarrow 26.0.1) the column becomes float64 without a word: the long
#         number loses its last digits, and the 2 of another row is 2.0 from then on, which a template
#         writes so. One text at that place, and all rows stay as they were.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet datasets==5.2.0 pyarrow==26.0.1 numpy==2.4.6
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/env/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import json
import pathlib
import sys

import datasets

for name in ("datasets", "pyarrow"):
    print(name, importlib.metadata.version(name))
datasets.disable_progress_bars()


def read(name, values):
    file = pathlib.Path(sys.argv[1]) / f"{name}.jsonl"
    rows = [{"calls": [{"arguments": {"order": value}}]} for value in values]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = datasets.load_dataset("json", data_files=str(file), split="train")
    written = [json.dumps(row["calls"][0]["arguments"]["order"]) for row in found]
    print(f"{name}: the file says {values}, datasets {written}")
    return written


LONG = 12345678901234567891
long, mixed = read("long", [LONG, 2]), read("mixed", [LONG, 2, "none"])
if long != [json.dumps(float(LONG)), "2.0"] or mixed != [json.dumps(LONG), "2", '"none"']:
    sys.exit("the behaviour has changed: how numbers of more than 63 bits are read")
PYTHON
