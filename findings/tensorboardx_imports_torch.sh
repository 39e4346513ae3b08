#!/usr/bin/env bash
# tensorboardX imports torch as soon as it is imported itself, wherever torch is installed.
#
# Guess:  tensorboardX writes TensorBoard files without torch, so a JAX program that only logs with it
#         starts equally fast and small whether torch is installed or not.
# Seen:   with tensorboardX 2.6.5 and torch 2.13.0, `import tensorboardX` puts torch into sys.modules
#         and takes several times as long as the same import with torch kept out; without torch it works,
#         too. A command line that answers in two seconds takes four where both are installed.
#
# Needs pip and a network; on Linux torch from PyTorch's index of CPU wheels is the small build:
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet tensorboardX==2.6.5 numpy==2.4.6 torch==2.13.0
"$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import subprocess
import sys

for name in ("tensorboardX", "torch"):
    print(name, importlib.metadata.version(name))

PROGRAM = """
import sys, time
if {without}:
    sys.modules["torch"] = None  # as if it were not installed
began = time.monotonic()
import tensorboardX
loaded = [name for name in sys.modules if name.split(".")[0] == "torch" and sys.modules[name]]
print(len(loaded), round(time.monotonic() - began, 2))
"""


def run(without):
    done = [sys.executable, "-c", PROGRAM.format(without=without)]
    modules, seconds = subprocess.run(
        done, capture_output=True, text=True, check=True
    ).stdout.split()
    return int(modules), float(seconds)


run(False)  # the first import of a fresh installation compiles it
with_torch, seconds = run(False)
kept_out, quick = run(True)
print(f"import tensorboardX: {with_torch} modules of torch, {seconds} s")
print(f"torch kept out:      {kept_out} modules of torch, {quick} s")
if with_torch == 0 or kept_out != 0:
    sys.exit("the behaviour has changed: importing tensorboardX no longer imports torch")
PYTHON
