"""What a killed export leaves behind goes at the next start, and nothing that is still written."""

import os
import subprocess
import sys
import time

import pytest

from tl_jax.convert.whole_directory import clear_abandoned, new_directory

KILLED = """
import os, pathlib, signal, sys
from tl_jax.convert import whole_directory
replace = os.replace
def killed(source, target):
    if os.path.basename(source).startswith(".export.new"):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killed
with whole_directory.new_directory(sys.argv[1], overwrite=True) as draft:
    (draft / "weights").write_text("new")
"""


@pytest.mark.parametrize("before", [False, True])
def test_a_killed_export_leaves_nothing_and_takes_nothing_away(tmp_path, before):
    target = tmp_path / "export"
    if before:
        target.mkdir()
        (target / "weights").write_text("old")
    subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False, timeout=120)
    left = sorted(path.name.split("-")[0] for path in tmp_path.iterdir())
    assert left == [".export.new", *([".export.old"] if before else [])]
    clear_abandoned(target)
    assert [path.name for path in tmp_path.iterdir()] == (["export"] if before else [])
    if before:
        assert (target / "weights").read_text() == "old"


def test_drafts_of_older_versions_and_other_machines_go_when_they_are_still(tmp_path):
    names = (".export.new-0123abcd", ".export.new-0123abcd-77-0123abcd", ".exports.new-0123abcd")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").touch()
    clear_abandoned(tmp_path / "export")
    assert len(list(tmp_path.iterdir())) == 3
    for name in names:
        for path in (tmp_path / name / "weights", tmp_path / name):
            os.utime(path, (time.time() - 9999,) * 2)
    with new_directory(tmp_path / "export") as draft:
        clear_abandoned(tmp_path / "export")
        assert draft.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".exports.new-0123abcd", "export"]
