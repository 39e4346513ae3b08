"""Run the scripts of launch/ with other programs replaced by ones that record their arguments."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
REVISION = "0123456789ab"
ARGUMENTS = ("--config=configs/quickstart.py", "--config.run_dir=/mnt/tl_jax/runs/first")
SETTINGS = {
    "PROJECT": "my-project",
    "ZONE": "us-west4-a",
    "NAME": "first",
    "BUCKET": "my-bucket",
    "ACCELERATOR": "v5litepod-256",
    "RUNTIME_VERSION": "v2-alpha-tpuv5-lite",
    "IMAGE": "us-docker.pkg.dev/my-project/images/tl_jax:1",
    "CLUSTER": "my-cluster",
    "STORAGE": "my-storage",
    "SERVICE_ACCOUNT": "trainer",
    "GKE_ACCELERATOR": "tpu-v5-lite-podslice",
    "TOPOLOGY": "16x16",
    "QUOTA_CHIPS": "512",
}

RECORD = """\
#!/usr/bin/env bash
{ printf '%s\\x1f' "${0##*/}" "$@"; printf '\\x1e'; } >>"$CALLS"
"""
# Enough of git for an upload.
GIT = f"""\
#!/usr/bin/env bash
case "$*" in
    *rev-parse*) echo {REVISION} ;;
    *archive*) for word; do case "$word" in --output=*) : >"${{word#*=}}" ;; esac; done ;;
esac
"""


@dataclasses.dataclass
class Bench:
    """A directory of replaced programs, first on PATH, and what was called."""

    place: Path

    @property
    def programs(self) -> Path:
        return self.place / "programs"

    def replace(self, name: str, then: str = "") -> None:
        """Replace a program by one that records its arguments and goes on with ``then``."""
        path = self.programs / name
        path.write_text(RECORD + then + "\n", encoding="utf-8")
        path.chmod(0o755)

    @property
    def calls(self) -> list[list[str]]:
        """Every recorded call in order, the program's name first."""
        path = self.place / "calls"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [call.split("\x1f")[:-1] for call in text.split("\x1e")[:-1]]

    def environment(self, **settings: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
        path = f"{self.programs}:{os.environ['PATH']}"
        return {**kept, "PATH": path, "CALLS": str(self.place / "calls"), **settings}

    def run(self, script: str, *words: str, settings: dict[str, str], **options):
        """Run a script of launch/ and return what ``subprocess.run`` does."""
        return subprocess.run(
            ["bash", str(LAUNCH / script), *words],
            env=self.environment(**settings),
            cwd=options.pop("cwd", self.place),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )


def printed(output: str) -> list[list[str]]:
    """Return the commands that a launcher printed, as a shell would read them."""
    return [shlex.split(line[2:]) for line in output.splitlines() if line.startswith("+ ")]


def read_flags(chip: str) -> list[str]:
    """Return the flags of a chip's file."""
    lines = (LAUNCH / "xla_flags" / f"{chip}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
