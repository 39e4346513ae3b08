"""Rows that are not to be learned from, whole or in part, and messages written as columns."""

import json

import pytest

from tl_jax.data.importers import BadRow, openai, read, sharegpt
from tl_jax.data.trajectory import Message
from tl_jax.errors import DataError, RowError

USER = {"role": "user", "content": "Oslo?"}
ANSWER = {"role": "assistant", "content": "It is 3."}


def weight(entry, **row):
    found = openai.trajectory({"messages": [USER, entry], **row}, source="s", line=0)
    return found.messages[1].weight


@pytest.mark.parametrize(
    ("flag", "left"),
    [
        ({"turn_weight": 0.5}, 0.5),
        ({"with_loss": False}, 0),
        ({"trainOnTurn": False}, 0),
        ({"is_context": True}, 0),
        ({"frozen": False}, 1),
    ],
)
def test_more_names_of_a_weight(flag, left):
    assert weight({**ANSWER, **flag}) == left


@pytest.mark.parametrize(
    ("flag", "left"),
    [
        ({"train": False}, 0),
        ({"exclude": True}, 0),
        ({"example_weight": 0.5}, 0.5),
        ({"train": True}, 1),
        ({"exclude": "tests"}, 1),
        ({"exclude": ["tests"]}, 1),
        ({"label": 0}, 1),
        ({"label": True}, 1),
    ],
)
def test_a_row_may_be_left_out_as_a_turn_may(flag, left):
    assert weight(ANSWER, **flag) == left


@pytest.mark.parametrize("key", ["label", "kto_tag"])
def test_a_reply_that_is_marked_as_a_bad_one_is_refused(key):
    with pytest.raises(RowError, match="unwanted"):
        weight(ANSWER, **{key: False})
    turns = [{"from": "human", "value": "Oslo?"}, {"from": "gpt", "value": "4."}]
    with pytest.raises(RowError, match="unwanted"):
        sharegpt.trajectory({"conversations": turns, key: False}, source="s", line=0)


@pytest.mark.parametrize("rejected", [{"from": "gpt", "value": "4."}, [ANSWER]])
def test_a_row_with_a_better_and_a_worse_reply_is_refused(rejected):
    with pytest.raises(RowError, match="a preferred and a rejected reply"):
        weight(ANSWER, chosen=ANSWER, rejected=rejected)
    for other in (None, [], "too long", True):
        assert weight(ANSWER, rejected=other) == 1


@pytest.mark.parametrize(
    "row",
    [
        {"messages": {"role": ["user", "assistant"], "content": ["Oslo?", "It is 3."]}},
        {"conversations": {"from": ["human", "gpt"], "value": ["Oslo?", "It is 3."]}},
    ],
)
def test_messages_that_are_written_as_columns_are_read(row, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (found,) = read(path)
    assert not isinstance(found, BadRow)
    assert found.messages == (Message("user", "Oslo?"), Message("assistant", "It is 3."))
    values, _ = next(iter(row.values())).values()
    values.append("user")
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match="not recognised"):
        read(path)


@pytest.mark.parametrize("key", ["messages", "conversations"])
def test_messages_that_are_each_a_text_are_read(key, tmp_path):
    turns = [USER, ANSWER] if key == "messages" else [{"from": "gpt", "value": "It is 3."}]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({key: list(map(json.dumps, turns))}) + "\n")
    (found,) = read(path)
    assert not isinstance(found, BadRow) and found.messages[-1].content == "It is 3."


@pytest.mark.parametrize(
    ("head", "what"),
    [(b"PAR1", "a Parquet file"), (b"PK\x03\x04", "a zip archive"), (b"BZh9", "with bzip2")],
)
def test_a_file_of_another_kind_than_its_name_says_is_named(head, what, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(head + b"\x00\x01")
    with pytest.raises(DataError, match=what):
        read(path)


@pytest.mark.parametrize(
    ("others", "kept"),
    [
        (True, True),
        ({"type": ["string", "null"]}, True),
        ({"type": "string"}, False),
        (None, False),
    ],
)
def test_a_null_of_an_undeclared_parameter_stays_where_the_tool_takes_others(others, kept):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    schema |= {} if others is None else {"additionalProperties": others}
    call = {"function": {"name": "weather", "arguments": {"city": "Oslo", "near": None}}}
    found = openai.trajectory(
        {
            "messages": [USER, {"role": "assistant", "content": None, "tool_calls": [call]}],
            "tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}],
        },
        source="s",
        line=0,
    )
    assert ("near" in found.messages[1].calls[0].arguments) == kept
