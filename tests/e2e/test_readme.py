"""What the READMEs say exists, and what they show runs."""

import dataclasses
import doctest
import glob
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tl_jax
from tl_jax.calls.call import ToolCall
from tl_jax.config import RunConfig
from tl_jax.config.fields import check_path
from tl_jax.data.examples.build import Prompt
from tl_jax.evaluate.reading import writer
from tl_jax.evaluate.results import Reply, judge
from tl_jax.evaluate.suites.choose import read_items

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
ROOMS = ("data", "rewards", "evaluate", "evaluate/suites", "models", "calls")
TEXTS = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*README.md", "CONTRIBUTING.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
]
SECTIONS = [f.name for f in dataclasses.fields(RunConfig) if dataclasses.is_dataclass(f.default)]
# What the commands make, so that a checkout does not have it.
# SCRIPT stands for any of them.
MADE = {"launch/env", "launch/SCRIPT.sh"}


def names(path):
    return str(path.relative_to(ROOT))


each_text = pytest.mark.parametrize("path", TEXTS, ids=names)


def blocks(path, kind):
    """Return the code blocks of a kind, the first word behind the fence, without their indent."""
    text = path.read_text(encoding="utf-8")
    fence = re.compile(rf"^( *)```{kind}\b[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    return [
        "\n".join(line.removeprefix(indent) for line in body.splitlines()) + "\n"
        for indent, body in fence.findall(text)
    ]


def spans(path):
    """Return what stands in backticks, code blocks left out."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", text)


def example(room, name):
    """Run the file that a room's README shows as an example and return what it defines."""
    (body,) = (b for b in blocks(ROOT / "tl_jax" / room / "README.md", "python") if name in b)
    assert body.startswith(f"# {name}\n")
    found = {}
    exec(compile(body, name, "exec"), found)  # noqa: S102
    return found


def test_the_front_page_and_the_pages_of_rooms_with_seams_are_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 220
    for room in ROOMS:
        text = (ROOT / "tl_jax" / room / "README.md").read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 40, room


@each_text
def test_bash_reads_every_block(path):
    for block in blocks(path, "bash"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), block


@each_text
def test_every_setting_that_is_named_exists(path):
    text = path.read_text(encoding="utf-8")
    found = set(re.findall(r"--config\.([a-z_.]+)=", text)) - {"section.field"}
    named = re.compile(rf"(?:config\.)?((?:{'|'.join(SECTIONS)})\.[a-z0-9_.]+)(?:=.*)?", re.DOTALL)
    found |= {match[1] for span in spans(path) if (match := named.fullmatch(span))}
    for setting in sorted(name for name in found if not name.endswith((".json", ".jsonl"))):
        check_path(RunConfig, setting)


def test_settings_are_looked_for_where_they_stand():
    assert "data.validation_fraction" in spans(README) and "ppo" in SECTIONS
    assert "--config.train.steps=40" in "".join(blocks(README, "bash"))


@each_text
def test_every_path_exists(path):
    text = path.read_text(encoding="utf-8")
    for found in re.findall(r"(?<![\w/.$])((?:tl_jax|tools|tests|configs|launch)/[\w./*-]+)", text):
        file = found.rstrip(".")
        places = (ROOT, path.parent)
        assert file in MADE or any(glob.glob(str(at / file)) for at in places), file


@each_text
def test_every_link_leads_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        file, _, heading = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        if heading:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head).lower().replace(" ", "-") for head in heads}
            assert heading in slugs, link


def test_every_room_page_is_listed_on_the_front_page():
    text = README.read_text(encoding="utf-8")
    assert [names(path) for path in TEXTS if names(path) not in text and path != README] == []


@each_text
def test_python_blocks_are_python(path):
    for block in blocks(path, "python"):
        compile(block, str(path), "exec")


@each_text
def test_what_a_python_session_shows_is_what_happens(path):
    runner = doctest.DocTestRunner(verbose=False)
    for number, block in enumerate(blocks(path, "pycon")):
        test = doctest.DocTestParser().get_doctest(block, {}, f"{path}[{number}]", str(path), 0)
        assert runner.run(test).failed == 0


def test_the_example_of_rules_for_wrong_calls_is_accepted():
    from tl_jax.data.mae.policy import policy_of

    (block,) = blocks(ROOT / "tl_jax/data/mae/README.md", "python")
    found = {}
    exec(block, found)  # noqa: S102
    assert policy_of(found["mae"]).rules == "structured+static"


def test_the_example_of_a_reward_tells_right_from_wrong():
    reward = example("rewards", "my_reward.py")["reward"]
    calls, words = (
        Prompt(id="a", ids=[], text="", tools=(), golds=golds, tags={})
        for golds in ((ToolCall("right"),), ())
    )
    replies = ("right(a = 1)", "wrong()", "I do not know.")
    assert [reward(reply, calls) for reply in replies] == [1.0, -1.0, -1.0]
    assert [reward(reply, words) for reply in replies] == [-1.0, -1.0, 1.0]


def test_the_example_of_an_importer_reads_a_row():
    importer = example("data", "my_format.py")
    row = {"question": "Rain?", "tool": "weather", "arguments": {"city": "Oslo"}}
    assert importer["recognise"](row) and not importer["recognise"]({"messages": []})
    found = importer["trajectory"](row, source="a.jsonl", line=3)
    assert [message.role for message in found.messages] == ["user", "assistant"]
    assert found.messages[1].calls == (ToolCall("weather", {"city": "Oslo"}),)


def test_the_example_of_a_suite_asks_and_scores():
    suite = example("evaluate/suites", "my_suite.py")["SUITE"]
    items = read_items(suite, "")
    assert [item.id for item in items] == ["sum-0", "sum-1", "sum-2"]
    for call, right in ((items[2].gold[0][0], True), (ToolCall("add", {"a": 5, "b": 1}), False)):
        reply = Reply(writer("hermes")([call]))
        assert judge(suite, items[2], reply, "hermes").scores["cf"] == right


def short(run_dir):
    """Return the flags of a run that takes seconds, as nested settings."""
    return {
        "run_dir": str(run_dir),
        "data": {"synthetic_trajectories": 40, "max_length": 512, "batch_size": 1},
        "train": {"steps": 2, "ce_chunk": 256, "eval_batches": 0},
        "optim": {"warmup_steps": 1},
        "ppo": {
            "steps": 1,
            "critic_warmup_steps": 0,
            "prompts_per_step": 2,
            "max_prompt_length": 448,
            "max_new_tokens": 48,
        },
        "ppo_optim": {"warmup_steps": 0, "schedule": "constant"},
        "evaluate": {
            "max_tasks": 2,
            "max_new_tokens": 8,
            "synthetic_trajectories": 2,
            "batch_size": 2,
        },
    }


def test_the_training_example_runs_as_printed(tmp_path):
    (block,) = blocks(README, "python")
    program = tmp_path / "program.py"
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(short(tmp_path / "run")))
    # As printed, but for the settings: a run of seconds.
    program.write_text(
        "import json, tl_jax\n"
        "from tl_jax.config.fields import from_dict\n"
        "kind = tl_jax.RunConfig\n"
        f"settings = from_dict(kind, json.load(open({str(settings)!r})))\n"
        "tl_jax.RunConfig = lambda run_dir: settings\n" + block
    )
    done = subprocess.run(
        [sys.executable, program],
        cwd=ROOT,
        env=one_device(),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run/export/config.json").exists()


def one_device():
    """Return this environment without the virtual devices of the tests, this package first."""
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return {**kept, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(tl_jax.__file__).parents[1])}


@pytest.mark.slow
def test_the_commands_of_the_front_page_run():
    done = subprocess.run(
        ["bash", "tools/readme.sh"],
        cwd=ROOT,
        env={**one_device(), "QUICK": "1", "VENV": sys.prefix},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    left_out = [line for line in done.stdout.splitlines() if line.startswith("readme: left out: ")]
    assert len(left_out) == 5, left_out
