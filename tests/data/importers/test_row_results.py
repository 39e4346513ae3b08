"""Results of tools: more signs of a failure, and more ways to say which call they answer."""

import json

import pytest

from tl_jax.data.importers import openai
from tl_jax.errors import RowError

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


PNG = "iVBORw0KGgoAAAANSUhEUgAA" + "A" * 2000


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (PNG, "[image: image/png]"),
        ({"shot": PNG}, '{"shot": "[image: image/png]"}'),
        (json.dumps({"pdf": f"JVBERi0xLjQK{PNG}"}), '{"pdf": "[file: application/pdf]"}'),
        ([{"type": "resource", "resource": {"uri": "a://b/c.bin", "blob": PNG}}], "[file: c.bin]"),
        ("A" * 3000, "A" * 3000),
        ("src/9j/" + "a/b" * 900, "src/9j/" + "a/b" * 900),
    ],
)
def test_files_written_out_are_placeholders_also_where_nothing_says_what_they_are(content, text):
    (found,) = read((content, {}), calls=1)
    assert found.content == text


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
def test_a_file_in_the_text_of_a_turn_is_refused_as_an_image_is(role):
    entry = {"role": role, "content": f"![](data:image/png;base64,{PNG})"}
    with pytest.raises(RowError, match="a file as data"):
        openai.trajectory({"messages": [entry]}, source="s", line=0)
    entry["content"] = "Write `data:image/gif;base64,R0lGODlhAQABAAAAACw=` there."
    found = openai.trajectory({"messages": [entry]}, source="s", line=0)
    assert found.messages[0].content == entry["content"]


def test_results_with_their_calls_as_cohere_has_them_are_paired_by_name():
    calls = [{"name": name, "parameters": {"n": 1}} for name in NAMES]
    each = [{"call": calls[n], "outputs": [{"text": NAMES[n]}]} for n in (1, 0)]
    row = [
        {"role": "USER", "message": "Oslo?"},
        {"role": "CHATBOT", "message": "", "tool_calls": calls},
        {"role": "TOOL", "tool_results": each},
    ]
    found = openai.trajectory({"messages": row}, source="s", line=0)
    assert [m.content for m in found.messages[2:]] == list(NAMES)
