"""Rows written by hand are the rows that the JSON library writes."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.calls.call import tool_to_schema
from tl_jax.data.examples.build import Prompt
from tl_jax.data.examples.jsonl import prompt_from_json, prompt_lines


def dumped(row):
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def prompt_of(ids):
    return Prompt("a", ids, "", (), (), {})


@settings(deadline=None)  # ids that come for the first time are written one by one
@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=30))
def test_ids_are_written_in_full(ids):
    assert json.loads(next(prompt_lines([prompt_of(ids)])))["ids"] == ids


def test_ids_that_are_like_the_last_in_parts_are_written_in_full():
    for ids in ([*range(400)], [*range(130)], [*range(128), 9, *range(300)], [*range(400)], [5]):
        assert json.loads(next(prompt_lines([prompt_of(ids)])))["ids"] == ids


def test_prompt_lines_are_compact_json_and_read_back(trajectory):
    calls, goal = trajectory.messages[1].calls, trajectory.messages[5].calls
    prompts = [
        Prompt("Turn 1: é", [3, 1], 'say "hi"\n', tools, calls, {"b": "c"}, 7, last, "é.")
        for tools in (trajectory.tools, trajectory.tools, trajectory.tools[:1])
        for last in (goal, calls, ())
    ]
    lines = list(prompt_lines(prompts))
    for line, prompt in zip(lines, prompts, strict=True):
        assert line == dumped(
            {
                "id": prompt.id,
                "ids": prompt.ids,
                "text": prompt.text,
                "tools": [tool_to_schema(tool) for tool in prompt.tools],
                "golds": [{"name": c.name, "arguments": c.arguments} for c in prompt.golds],
                "tags": prompt.tags,
                "reply_tokens": prompt.reply_tokens,
                "goal": [{"name": c.name, "arguments": c.arguments} for c in prompt.goal],
                "reply": prompt.reply,
            }
        )
        again = prompt_from_json(json.loads(line))
        assert (again.ids, again.text, again.golds) == (prompt.ids, prompt.text, prompt.golds)
        assert (again.goal, again.reply) == (prompt.goal, prompt.reply)
        assert [tool.name for tool in again.tools] == [tool.name for tool in prompt.tools]
