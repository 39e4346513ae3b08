"""The real benchmark files: lines, calls and errors as their README and index count them."""

import collections
import functools
import gzip
import json
import os
import re
from pathlib import Path

import pytest

from tl_jax.data.importers import BadRow, read, toolalpaca
from tl_jax.data.render.paper_template import render_sample

# File, format, lines, calls, results. A turn that should hold a call and does not counts as one.
COUNTS = [
    ("api_bank/lv1_lv2_dialogues.jsonl.gz", "api_bank", 264, 508, 508),
    ("intercode/trajectories.jsonl.gz", "intercode", 10021, 64038 + 9559 + 861, 74064),
    ("livemcpbench/trajectories.jsonl.gz", "livemcpbench", 94, 806, 806),
    ("nestful/executable.jsonl.gz", "nestful", 85, 233, 0),
    ("nestful/non-executable-glaive.jsonl.gz", "nestful", 169, 469, 0),
    ("seal_tools/dev.jsonl.gz", "seal_tools", 700, 1804, 0),
    ("seal_tools/test_in_domain.jsonl.gz", "seal_tools", 700, 1795, 0),
    ("seal_tools/test_out_domain.jsonl.gz", "seal_tools", 654, 1937, 0),
    ("star/dialogues.jsonl.gz", "star", 5820, 21769, 21769),
    ("tooltalk/conversations.jsonl.gz", "tooltalk", 78, 266, 266),
]
BAD = {
    "api_bank/lv1_lv2_dialogues.jsonl.gz": {199: "no turns"},
    "star/dialogues.jsonl.gz": {2738: "no assistant turn", 2750: "no assistant turn"},
}
"""Rows without anything to train; all others of these files are read."""
STAR_ERROR = re.compile("You must provide|not authorized")
NAMES = [name for name, *_ in COUNTS]


@pytest.fixture(scope="module")
def opened():
    """The format and all rows of a file, read once; skips where TL_JAX_DATA is unset."""
    folder = os.environ.get("TL_JAX_DATA")
    if not folder:
        pytest.skip("TL_JAX_DATA is not set")

    @functools.cache
    def opened(name):
        source = read(Path(folder) / name)
        return source.format, list(source)

    return opened


@pytest.fixture(scope="module")
def rows(opened):
    """All rows of a file."""
    return lambda name: opened(name)[1]


@pytest.fixture(scope="module")
def index():
    """What the index says of every line, by file."""
    folder = os.environ.get("TL_JAX_DATA")
    if not folder:
        pytest.skip("TL_JAX_DATA is not set")
    lines = collections.defaultdict(dict)
    with gzip.open(Path(folder) / "index.jsonl.gz", "rt", encoding="utf-8") as stream:
        for row in map(json.loads, stream):
            if row["file"] in NAMES:
                lines[row["file"]][row["line"]] = row
    return lines


def good(rows):
    return [row for row in rows if not isinstance(row, BadRow)]


def calls(row):
    """Calls, and turns that should hold one."""
    turns = [message for message in row.messages if message.role == "assistant"]
    return sum(len(turn.calls) + (turn.status == "error") for turn in turns)


def results(row):
    return [message for message in row.messages if message.role == "tool"]


def errors(row):
    if row.id.startswith("star-"):
        return sum(bool(STAR_ERROR.search(message.content)) for message in results(row))
    if row.id.startswith("ic_python"):
        return sum(message.content.startswith("Error") for message in results(row))
    return sum(message.status == "error" for message in results(row))


@pytest.mark.parametrize(("name", "form", "lines", "called", "answered"), COUNTS)
def test_no_line_is_lost_and_counts_are_those_of_the_readme(
    opened, name, form, lines, called, answered
):
    recognised, found = opened(name)
    assert recognised == form
    assert [row.line for row in found] == list(range(lines))
    bad = {row.line: row.reason for row in found if isinstance(row, BadRow)}
    assert bad == BAD.get(name, {})
    assert len({row.id for row in good(found)}) == lines - len(bad)
    assert sum(map(calls, good(found))) == called
    assert sum(len(results(row)) for row in good(found)) == answered


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith(("nestful", "seal"))])
def test_every_line_has_the_calls_and_errors_of_the_index(rows, index, name):
    assert len(index[name]) == len(rows(name))
    for row in good(rows(name)):
        said = index[name][row.line]
        assert (calls(row), len(results(row)), errors(row)) == (
            said["calls"],
            said["feedback"],
            said["errors"],
        )
        if "success" in row.tags:
            assert row.tags["success"] == str(said["success"]).lower()


def test_errors_by_set_are_those_of_the_readme(rows):
    found = collections.Counter()
    for name in ("tooltalk/conversations", "star/dialogues", "livemcpbench/trajectories"):
        found[name] = sum(map(errors, good(rows(f"{name}.jsonl.gz"))))
    for row in rows("intercode/trajectories.jsonl.gz"):
        found[row.tags["domain"]] += errors(row)
    assert found == {
        "tooltalk/conversations": 1,
        "star/dialogues": 336,
        "livemcpbench/trajectories": 14,
        "ic_sql": 49048,
        "ic_bash": 3303,
        "ic_python": 33,
    }


def test_replies_that_were_held_back_are_no_commands(rows):
    turns = [m for row in rows("intercode/trajectories.jsonl.gz") for m in row.messages]
    assert sum(m.role == "assistant" and m.status == "error" for m in turns) == 394
    commands = [value for m in turns for call in m.calls for value in call.arguments.values()]
    assert not any(command.startswith("execute[") for command in commands)
    assert sum(call.name == "submit" for m in turns for call in m.calls) == 1219


def test_api_bank_steps_have_one_target_a_row(rows):
    found = rows("api_bank/lv3_train.jsonl.gz")
    assert len(found) == 1245 and not any(isinstance(row, BadRow) for row in found)
    last = [row.messages[-1] for row in found]
    assert sum(bool(turn.calls) for turn in last) == 903
    assert sum(turn.status == "error" for turn in last) == 907 - 903
    assert sum(not turn.calls and not turn.status for turn in last) == 338
    assert sum(len(results(row)) for row in found) == 1836
    assert all(row.tags["target"] == "last" for row in found)
    assert len({row.tags["task"] for row in found}) < len(found) / 2


def test_toolrl_decisions_are_those_of_the_readme(rows):
    found = rows("toolrl_sft/rlla_sft.jsonl.gz")
    assert len(found) == 400 and not any(isinstance(row, BadRow) for row in found)
    last = [row.messages[-1] for row in found]
    assert sum(bool(turn.calls) for turn in last) == 346
    assert sum(len(turn.calls) for turn in last) == 576
    assert sum(bool(results(row)) for row in found) == 37
    assert all(turn.thoughts for turn in last)
    assert all(bool(turn.content) != bool(turn.calls) for turn in last if not turn.status)


@pytest.mark.parametrize(
    ("name", "unknown_tools", "unknown_parameters", "missing"),
    [
        ("api_bank/lv1_lv2_dialogues.jsonl.gz", 0, 0, 0),
        ("api_bank/lv3_train.jsonl.gz", 4, 14, 7),
        ("livemcpbench/trajectories.jsonl.gz", 0, 0, 0),
        ("nestful/executable.jsonl.gz", 0, 34, 1),
        ("nestful/non-executable-glaive.jsonl.gz", 11, 15, 11),
        ("seal_tools/dev.jsonl.gz", 0, 0, 0),
        ("star/dialogues.jsonl.gz", 0, 0, 3),
        ("toolrl_sft/rlla_sft.jsonl.gz", 3, 21, 0),
        ("tooltalk/conversations.jsonl.gz", 0, 0, 0),
    ],
)
def test_calls_fit_the_tools_but_for_faults_of_the_source(
    rows, name, unknown_tools, unknown_parameters, missing
):
    found = collections.Counter()
    for row in good(rows(name)):
        tools = {tool.name: tool for tool in row.tools}
        for call in (call for message in row.messages for call in message.calls):
            if call.name not in tools:
                found["tool"] += 1
                continue
            parameters = tools[call.name].parameters
            found["parameter"] += len(set(call.arguments) - {p.name for p in parameters})
            found["missing"] += any(p.required and p.name not in call.arguments for p in parameters)
    assert (found["tool"], found["parameter"], found["missing"]) == (
        unknown_tools,
        unknown_parameters,
        missing,
    )


@pytest.mark.parametrize(
    ("name", "stride"), [(n, {"star": 97, "inte": 211}.get(n[:4], 17)) for n in NAMES]
)
def test_rows_can_be_rendered(rows, name, stride):
    for row in good(rows(name))[::stride]:
        last = max(i for i, m in enumerate(row.messages) if m.role == "assistant")
        text = render_sample(row.tools, row.messages[: last + 1]).text
        assert text.startswith("System: ")


def test_no_evaluation_row_of_toolalpaca_is_read(rows):
    found = rows("eval_toolalpaca/eval_simulated.jsonl.gz")
    assert len(found) == 10
    assert {row.reason for row in found} == {
        "an evaluation row (ToolAlpaca), which must not be trained on"
    }


def test_the_openapi_texts_of_toolalpaca_give_every_function(rows):
    for bad in rows("eval_toolalpaca/eval_simulated.jsonl.gz"):
        tools = toolalpaca.api_tools(bad.row, collections.Counter())
        assert [tool.name for tool in tools] == ["getDetails", *bad.row["Function_Projection"]]
        assert any(parameter.required for tool in tools[1:] for parameter in tool.parameters) or (
            bad.row["Name"] == "Axolotl"
        )
