"""Results of tools: more signs of a failure, and more ways to say which call they answer."""

import pytest

from tl_jax.data.importers import openai

USER = {"role": "user", "content": "Oslo?"}
NAMES = ("weather", "mail")
CALLS = (("a", "weather"), ("b", "mail"))


def read(*results, calls=2):
    found = [{"id": i, "function": {"name": n, "arguments": "{}"}} for i, n in CALLS]
    asked = {"role": "assistant", "content": None, "tool_calls": found[:calls]}
    answers = [{"role": "tool", "content": text, **more} for text, more in results]
    row = {"messages": [USER, asked, *answers]}
    return openai.trajectory(row, source="s", line=0).messages[2:]


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"tool_status": "failed"}, "error"),
        ({"tool_error": "no city"}, "error"),
        ({"errors": ["no city"]}, "error"),
        ({"errors": []}, ""),
        ({"type": "tool_error"}, "error"),
        ({"type": "tool_result"}, ""),
        ({"success": 0}, "error"),
        ({"ok": 1}, "ok"),
        ({"metadata": {"success": False}}, "error"),
        ({"metadata": {"error": True}}, "error"),
        ({"metadata": {"error": "handled"}}, ""),
        ({"extras": {"exit_code": 1}}, "error"),
        ({"rc": 0}, ""),
        ({"error_count": 0, "latency": 500}, ""),
    ],
)
def test_more_fields_say_that_a_call_failed(more, status):
    (found,) = read(("x", more), calls=1)
    assert found.status == status


@pytest.mark.parametrize(
    "key", ["callId", "toolUseId", "in_reply_to", "request_id", "tool_call_ids", "tool"]
)
def test_an_id_or_a_name_under_another_key_counts_where_it_is_that_of_a_call(key):
    names = NAMES if key == "tool" else ("a", "b")
    given = [[name] if key.endswith("ids") else name for name in names]
    found = read(("2", {key: given[1]}), ("1", {key: given[0]}))
    assert [m.content for m in found] == ["1", "2"]
    # Of something else it says nothing, and the order counts.
    found = read(("1", {key: "x"}), ("2", {key: "y"}))
    assert [m.content for m in found] == ["1", "2"]
