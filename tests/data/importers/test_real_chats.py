"""The real chat and benchmark files: lines, calls and errors as their README and index count."""

import collections
import functools
import gzip
import json
import os
from pathlib import Path

import pytest

from tl_jax.data.importers import read
from tl_jax.data.trajectory import Trajectory


@pytest.fixture(scope="module")
def data():
    """The folder of the real files; skips where TL_JAX_DATA is unset."""
    folder = os.environ.get("TL_JAX_DATA")
    if not folder:
        pytest.skip("TL_JAX_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="module")
def index(data):
    """What the index says of every line, by file."""
    lines = collections.defaultdict(dict)
    with gzip.open(data / "index.jsonl.gz", "rt", encoding="utf-8") as stream:
        for row in map(json.loads, stream):
            lines[row["file"]][row["line"]] = row
    return lines


@pytest.fixture(scope="module")
def rows_of(data):
    """The rows of a file, read once."""
    return functools.cache(lambda name: list(read(data / name)))


# File, format, lines, calls, errors, lines with an error.
COUNTS = [
    ("agentdojo/runs.jsonl.gz", "agentdojo", 2040, 6634, 304, 211),
    ("tau_bench/trajectories.jsonl.gz", "tau_bench", 515, 3765, 291, 161),
    ("tau2_bench/simulations.jsonl.gz", "tau2_bench", 945, 8683, 184, 89),
    ("tau2_bench/sft_v1_small.jsonl.gz", "tau2_bench", 61, 487, 13, 11),
    ("glaive_toolcall_demo/glaive_toolcall_en_demo.jsonl.gz", "sharegpt", 300, 211, 0, 0),
    ("glaive_toolcall_demo/reason_tool_use_demo_50.jsonl.gz", "openai", 50, 68, 0, 0),
]


def calls(row):
    return sum(len(message.calls) for message in row.messages)


def errors(row):
    return sum(message.role == "tool" and message.status == "error" for message in row.messages)


@pytest.mark.parametrize(("name", "form", "lines", "called", "failed", "with_error"), COUNTS)
def test_every_line_is_read_with_the_counts_of_the_readme_and_the_index(
    data, rows_of, index, name, form, lines, called, failed, with_error
):
    assert read(data / name).format == form
    rows = rows_of(name)
    assert all(isinstance(row, Trajectory) for row in rows)
    assert len({row.id for row in rows}) == len(rows) == lines
    assert sum(map(calls, rows)) == called
    assert sum(map(errors, rows)) == failed
    assert sum(errors(row) > 0 for row in rows) == with_error
    failures = [m for row in rows for m in row.messages if m.role == "assistant" and m.status]
    assert not failures
    for line, said in index[name].items():
        row = rows[line]
        assert (row.line, calls(row), errors(row)) == (line, said["calls"], said["errors"])
        assert sum(m.role == "tool" for m in row.messages) == said["feedback"]
        if "success" in row.tags:
            assert row.tags["success"] == str(said["success"]).lower()


def test_every_answer_follows_the_calls_of_its_turn(rows_of):
    for name, *_ in COUNTS:
        for row in rows_of(name):
            open_calls = 0
            for message in row.messages:
                if message.role == "tool":
                    open_calls -= 1
                    assert open_calls >= 0, row.id
                elif message.role == "assistant":
                    open_calls = len(message.calls)


def test_all_called_tools_of_the_benchmarks_are_offered(rows_of):
    for name, form, *_ in COUNTS[:4]:
        for row in rows_of(name):
            known = {tool.name for tool in row.tools}
            assert all(c.name in known for m in row.messages for c in m.calls), (form, row.id)


def test_half_of_the_glaive_dialogues_have_a_call(rows_of):
    assert sum(calls(row) > 0 for row in rows_of(COUNTS[4][0])) == 153


def test_tasks_are_shared_by_models_and_by_both_tau_benchmarks(rows_of):
    def tasks(name):
        return {row.tags["task"] for row in rows_of(name)}

    assert len(tasks("agentdojo/runs.jsonl.gz")) == 97
    first, second = tasks("tau_bench/trajectories.jsonl.gz"), tasks(COUNTS[2][0])
    assert "airline/30" in first & second
    assert tasks("tau2_bench/sft_v1_small.jsonl.gz") & second


def test_schemas_of_the_reasoning_file_are_repaired_and_counted(rows_of):
    repairs = collections.Counter()
    for row in rows_of(COUNTS[5][0]):
        for entry in filter(None, row.tags.get("repairs", "").split(",")):
            kind, _, count = entry.partition(":")
            repairs[kind] += int(count)
        for tool in row.tools:
            assert {p.type for p in tool.parameters} <= {
                "string", "number", "integer", "boolean", "array", "object", "any",
            }  # fmt: skip
    assert repairs["properties_without_schema"] == 14
    assert repairs["type_name"] > 100


def test_parallel_answers_given_as_one_list_are_split(rows_of):
    rows = rows_of(COUNTS[5][0])
    assert sum(m.role == "tool" for row in rows for m in row.messages) == 48


def test_toolbench_lines_without_a_chain_are_quarantined(data, index):
    name = "toolbench_examples/answers.jsonl.gz"
    rows = list(read(data / name))
    found = {row.line: row for row in rows if isinstance(row, Trajectory)}
    assert (len(rows), len(found)) == (21, 18)
    assert sum(map(calls, found.values())) == 67
    for line, said in index[name].items():
        if line not in found:
            assert said["calls"] == 0 and "no chain" in rows[line].reason
            continue
        assert calls(found[line]) == said["calls"]
        # The index counts a result that is cut off as an error; its status is not one.
        results = [m for m in found[line].messages if m.role == "tool"]
        assert sum(map(cut_or_failed, results)) == said["errors"]
        assert sum(m.status == "error" for m in results) <= said["errors"]
    assert sum(map(errors, found.values())) == 6


def cut_or_failed(message):
    try:
        return bool(json.loads(message.content)["error"])
    except ValueError:
        return True
