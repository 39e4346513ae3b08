"""A user's reward, importer and suite work with the package from its wheel, not the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

REWARD = """
import tl_jax as tl

def reward(reply, prompt):
    found = tl.score(reply, prompt.golds[0], prompt.tools)
    return 0.5 if found.category == "all_right" else -len(reply) / 1000
"""
IMPORTER = """
import tl_jax as tl
from tl_jax.data.trajectory import Message

NAME = "mine"

def recognise(row):
    return "asks and does" if isinstance(row, dict) and "does" in row else ""

def trajectory(row, *, source, line):
    call = tl.ToolCall(row["does"], {"city": row["city"]})
    turns = Message("user", row["asks"]), Message("assistant", "", (call,)), Message("tool", "ok")
    return tl.Trajectory(f"{source}:{line}", (tl.ToolSpec(row["does"]),), turns, source, line)
"""
SUITE = """
import tl_jax as tl
from tl_jax.data.trajectory import Message
from tl_jax.evaluate.suites import Item, Suite, answers

def read(path):
    tool, gold = tl.ToolSpec("weather"), tl.ToolCall("weather", {"city": "Rome"})
    return [Item("one", (tool,), (Message("user", "Is it warm in Rome?"),), answers(gold))]

SUITE = Suite("mine/weather", read)
"""
PROGRAM = """
import dataclasses, json, pathlib
import tl_jax as tl
from tl_jax.config.presets import tiny

from tl_jax.cli.settings import read_config, shipped

assert CHECKOUT not in tl.__file__, tl.__file__
assert {"quickstart", "smollm2_135m"} <= set(shipped()), shipped()
site = pathlib.Path(tl.__file__).parents[1]
assert all(path.is_relative_to(site) for path in shipped().values())
assert read_config("quickstart", "", []).train.steps == 260
rows = [
    {"asks": f"Is it warm in city {n}?", "does": "weather", "city": f"city {n}"} for n in range(60)
]
pathlib.Path("rows.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
base = tiny("runs/mine")
config = dataclasses.replace(
    base,
    data=dataclasses.replace(base.data, path="rows.jsonl", importer="my_format.py"),
    reward=dataclasses.replace(base.reward, path="my_reward.py:reward"),
    evaluate=dataclasses.replace(base.evaluate, suites=("my_suite.py",)),
)
run = tl.Run(config)
assert tl.prepare(run)["rows"] == 60
tl.train_rl(run)
samples = [json.loads(line) for line in open("runs/mine/samples.jsonl")]
assert samples and {sample["category"] for sample in samples} <= {"custom", "format_error"}
assert list(tl.evaluate(run)["sets"]) == ["mine/weather"]
print("all three work")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The unpacked wheel, built from the checkout without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    source = folder / "source"
    source.mkdir()
    # Built beside the checkout, which stays as it is.
    for name in ("pyproject.toml", "README.md", "LICENSE", "tl_jax", "configs"):
        os.symlink(ROOT / name, source / name)
    done = subprocess.run(
        [*build, "--wheel-dir", folder, source], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("tl_jax-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_reward_importer_and_suite_of_a_user_work_in_an_installed_package(installed, tmp_path):
    for name, text in (
        ("my_reward.py", REWARD),
        ("my_format.py", IMPORTER),
        ("my_suite.py", SUITE),
        ("program.py", f"CHECKOUT = {str(ROOT / 'tl_jax')!r}\n{PROGRAM}"),
    ):
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}
    # On one device, with programs that compile quickly.
    environment |= {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all three work" in done.stdout
