"""One's own data: the right turns of trajectories, and the held-out turns of a run."""

import dataclasses
import json

import pytest

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.config import DataConfig, RunConfig
from tl_jax.data.examples.build import Prompt
from tl_jax.data.examples.jsonl import prompt_lines
from tl_jax.data.prepare.files import VALIDATION_PROMPTS
from tl_jax.data.trajectory import Message, Trajectory, to_json
from tl_jax.errors import DataError
from tl_jax.evaluate import run as scoring
from tl_jax.evaluate.suites import SUITES
from tl_jax.evaluate.suites.choose import chosen_suites, read_items
from tl_jax.evaluate.suites.own_data import source, spread

OWN = SUITES["own"]
TOOLS = (ToolSpec("find"), ToolSpec("book"))
WRONG, FIND, BOOK = (ToolCall(name, {"a": n}) for n, name in enumerate(("find", "find", "book")))
TURNS = (
    Message("user", "Go."),
    Message("assistant", "", (WRONG,)),
    Message("tool", "Error: no such thing", status="error"),
    Message("assistant", "", (FIND, BOOK)),
    Message("tool", "ok"),
    Message("tool", "ok"),
    Message("assistant", "Done."),
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = to_json(Trajectory("one", TOOLS, TURNS))
    path.write_text(json.dumps(row) + "\n")
    return str(path)


def test_the_right_turns_of_trajectories_are_asked(file):
    (item,) = read_items(OWN, file)
    assert item.gold == ((FIND, BOOK),) and item.tags["group"] == "book + find"
    assert item.messages == TURNS[:3] and item.tools == TOOLS


def prompts(count):
    return [Prompt(f"p{n}", [1, n], "", TOOLS, (BOOK,) if n else (), {}) for n in range(count)]


def test_prepared_turns_are_asked_as_they_are(tmp_path):
    (tmp_path / VALIDATION_PROMPTS).write_text("".join(prompt_lines(prompts(2))))
    for path in (tmp_path, tmp_path / VALIDATION_PROMPTS):
        words, call = read_items(OWN, str(path))
        assert len(OWN.version(str(path))) == 16
        assert (words.ids, words.gold, words.tags["group"]) == ((1, 0), ((),), "no call")
        assert (call.gold, call.tags["group"]) == (((BOOK,),), "book")


def test_a_row_that_cannot_be_read_is_named(tmp_path, file):
    path = tmp_path / "bad.jsonl"
    with open(file) as lines:
        path.write_text(lines.read() + '{"tools": [], "messages": [{"role": "x"}]}\n')
    with pytest.raises(DataError, match="row 2: .*leave it out or mend it"):
        read_items(OWN, str(path))


def test_a_run_is_scored_on_what_it_held_out_once_there_is_any(tmp_path):
    config = RunConfig(run_dir=str(tmp_path), data=DataConfig(path="mine.jsonl"))
    limits = dataclasses.replace(config.evaluate, synthetic_trajectories=0)
    config = dataclasses.replace(config, evaluate=limits)
    assert chosen_suites(config) == [] and OWN.version(source(config)) == ""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / VALIDATION_PROMPTS).write_text("".join(prompt_lines(prompts(3))))
    (own,) = chosen_suites(config)
    assert own.name == "own" and own.path == str(folder / VALIDATION_PROMPTS) and own.version
    for changed in (
        dataclasses.replace(config, data=DataConfig()),
        dataclasses.replace(config, evaluate=dataclasses.replace(limits, held_out_tasks=0)),
    ):
        assert source(changed) == "" and chosen_suites(changed) == []
    capped = dataclasses.replace(config, evaluate=dataclasses.replace(limits, held_out_tasks=2))
    assert [i.id for i in scoring.read_tasks(scoring.Run(capped), own).items] == ["p0", "p1"]


def test_fewer_turns_are_spread_over_all():
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread(range(2), 3) == [0, 1] and spread([], 3) == []
