#!/usr/bin/env bash
# load_dataset refuses a file of calls if a tool with other arguments stands behind the first ten MiB.
#
# Guess:  load_dataset("json") reads calls with any arguments, since datasets has a Json type for values
#         of mixed forms; the order of a file's rows does not matter.
# Seen:   with datasets 5.2.0 the types are those of the first ten MiB. The same rows load with the new
#         tool in the first line, every value as it stands in the file, and are a DatasetGenerationError
#         with it in the last one, streamed (a TypeError there) or not. So a set that loaded yesterday
#         does not load once it is shuffled or a new tool is appended. A larger chunksize (in bytes), or
#         a first row with everything in it, helps.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet datasets==5.2.0 pyarrow==26.0.1 numpy==2.4.6
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/env/bin/python" - "$folder" 2> "$folder/log" <<'PYTHON'
import importlib.metadata
import json
import pathlib
import sys

import datasets

for name in ("datasets", "pyarrow"):
    print(name, importlib.metadata.version(name))
datasets.disable_progress_bars()


def row(tool, arguments, note=""):
    return {"note": note, "calls": [{"name": tool, "arguments": arguments}]}


USUAL = [row("weather", {"city": "Oslo"}, "a" * 2000) for _ in range(6000)]
NEW = [row("convert", {"amount": 2, "to": ["NOK", None]})]


def load(name, rows, **more):
    file = pathlib.Path(sys.argv[1]) / f"{name}.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in rows))
    try:
        found = datasets.load_dataset("json", data_files=str(file), split="train", **more)
        found = found.select_columns("calls")
        kept = [each["calls"] for each in found] == [each["calls"] for each in rows]
        seen = "read as it stands" if kept else "read otherwise"
    except Exception as error:
        seen = type(error).__name__
    print(f"{name:18} {file.stat().st_size / 2**20:.0f} MiB: {seen}")
    return seen


seen = [
    load("first", NEW + USUAL),
    load("last", USUAL + NEW),
    load("last, streamed", USUAL + NEW, streaming=True),
    load("last, chunks", USUAL + NEW, chunksize=100 << 20),
]
whole = "read as it stands"
if seen != [whole, "DatasetGenerationError", "TypeError", whole]:
    sys.exit("the behaviour has changed: where in a file new arguments may begin")
PYTHON
