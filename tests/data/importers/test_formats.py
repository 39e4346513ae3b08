"""Recognition of formats, the file of the tools, and rows that are not what they should be."""

import copy
import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.data.importers import BadRow, read
from tl_jax.data.importers.read import FORMATS
from tl_jax.data.trajectory import Trajectory, from_json, to_json
from tl_jax.errors import DataError, RowError

FUNCTION = {
    "name": "f",
    "description": "F.",
    "parameters": {"type": "object", "properties": {"a": {"type": "str"}}, "required": ["a"]},
}
ARGUMENTS = '{"a": "x"}'
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Do it."},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": ARGUMENTS}}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "Error: no"},
    {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
]
OPENAI = {"messages": CHAT, "tools": [{"type": "function", "function": FUNCTION}]}
SHAREGPT = {
    "conversations": [
        {"from": "human", "value": "Do it."},
        {"from": "function_call", "value": json.dumps({"name": "f", "arguments": {"a": "x"}})},
        {"from": "observation", "value": "done"},
        {"from": "gpt", "value": "<tool_call>{'name': 'f', 'arguments': {'a': 'y'}}</tool_call>"},
        {"from": "gpt", "value": "[f(a='x'), f(a='y')]"},
    ],
    "system": f"Use {json.dumps([FUNCTION])}",
}
XLAM = {
    "id": 1,
    "query": "Do it.",
    "answers": json.dumps([{"name": "f", "arguments": {"a": "x"}}]),
    "tools": json.dumps([{"name": "f", "parameters": {"a": {"type": "str, optional"}}}]),
}
TOOLBENCH = {
    "query": "Do it.",
    "functions": [FUNCTION],
    "train_messages": [
        [],
        [
            {"role": "system", "content": "You are AutoGPT."},
            {"role": "user", "content": "\nDo it.\nBegin!\n"},
            {"role": "assistant", "function_call": {"name": "f", "arguments": ARGUMENTS}},
            {"role": "function", "name": "f", "content": '{"error": "Timeout", "response": ""}'},
            {"role": "assistant", "content": "So I stop."},
            {
                "role": "assistant",
                "content": None,
                "function_call": {"name": "Finish", "arguments": "{}"},
            },
        ],
    ],
}
AGENTDOJO = {
    "suite_name": "bank",
    "user_task_id": "user_task_0",
    "pipeline_name": "m",
    "utility": True,
    "messages": [
        {"role": "user", "content": [{"type": "text", "content": "Do it."}]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": "f", "args": {"a": "x"}}]},
        {"role": "tool", "content": "None", "tool_call_id": None, "error": None},
        {"role": "assistant", "content": "Done.", "tool_calls": None},
    ],
}
TAU_BENCH = {"env": "bank", "task_id": 4, "model": "m", "reward": 1.0, "traj": CHAT}
TAU2_BENCH = {
    "domain": "bank",
    "policy_id": "p",
    "agent": "llm_agent",
    "agent_llm": "m",
    "task": {"id": "4", "ticket": "Do it alone."},
    "simulation": {
        "id": "s",
        "task_id": "4",
        "reward_info": {"reward": 1.0},
        "messages": [
            {"role": "assistant", "content": "Hello."},
            {
                "role": "user",
                "content": None,
                "tool_calls": [{"id": "d", "name": "switch", "arguments": {}, "requestor": "user"}],
            },
            {"role": "tool", "id": "d", "content": "on", "requestor": "user", "error": False},
            {"role": "user", "content": "Do it."},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c", "name": "f", "arguments": {"a": "x"}, "requestor": "assistant"}
                ],
            },
            {"role": "tool", "id": "c", "content": "no", "requestor": "assistant", "error": True},
        ],
    },
}
SAMPLE = {"task_id": "4", "simulation_id": "s", "split": "train", "reward": 1.0, **OPENAI}
ROWS = {
    "openai": OPENAI,
    "sharegpt": SHAREGPT,
    "xlam": XLAM,
    "toolbench": TOOLBENCH,
    "agentdojo": AGENTDOJO,
    "tau_bench": TAU_BENCH,
    "tau2_bench": TAU2_BENCH,
}
TOOLS = {"bank": [FUNCTION], "bank_user_device": [{"name": "switch"}]}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_side_files(folder):
    (folder / "tools.json").write_text(json.dumps(TOOLS))
    (folder / "policies.json").write_text('{"p": "The policy."}')
    return folder


@pytest.fixture
def folder(tmp_path):
    """A folder with the files of the tools beside the data."""
    return write_side_files(tmp_path)


@pytest.fixture(scope="module")
def side_files(tmp_path_factory):
    """A file of tools, with the policies beside it."""
    return write_side_files(tmp_path_factory.mktemp("side")) / "tools.json"


def imported(path, *rows, **more):
    (found,) = read(write(path, *rows), **more)
    assert isinstance(found, Trajectory), found.reason
    return found


@pytest.mark.parametrize("name", ROWS)
def test_every_format_is_recognised_and_read(folder, name):
    source = read(write(folder / "a.jsonl", {"x": 1}, ROWS[name]))
    assert source.format == name
    assert source.reason.startswith("row 2: ")
    bad, found = source
    assert isinstance(bad, BadRow)
    assert [tool.name for tool in found.tools] == ["f"]
    assert next(m for m in found.messages if m.calls).calls[0].arguments == {"a": "x"}
    assert from_json(to_json(found)) == found


def test_a_row_of_several_formats_goes_to_the_first_in_the_order(folder):
    # The rows of agentdojo and the samples of tau2-bench are OpenAI chats with more keys, and a
    # ReAct row is a ShareGPT row; the special format wins even where it shows only later.
    order = list(FORMATS)
    assert order[-2:] == ["sharegpt", "openai"]
    for special in ("agentdojo", "tau2_bench", "xlam", "rotllama"):
        assert order.index(special) < order.index("sharegpt")
    assert FORMATS["openai"].recognise(AGENTDOJO) and FORMATS["openai"].recognise(SAMPLE)
    assert read(write(folder / "a.jsonl", OPENAI, AGENTDOJO)).format == "agentdojo"
    assert read(write(folder / "a.jsonl", SAMPLE)).format == "tau2_bench"
    both = {**XLAM, **OPENAI, **SHAREGPT}
    assert read(write(folder / "a.jsonl", both)).format == "xlam"
    assert read(write(folder / "a.jsonl", {**OPENAI, **SHAREGPT})).format == "sharegpt"


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_can_be_set(tmp_path, name):
    path = write(tmp_path / "a.jsonl", {"x": 1})
    assert (read(path, name).format, read(path, name).reason) == (name, "set by the configuration")
    assert all(isinstance(row, BadRow) for row in read(path, name))


def test_an_unknown_format_names_the_nearest(folder):
    with pytest.raises(ValueError, match="did you mean 'tau_bench'"):
        read(write(folder / "a.jsonl", OPENAI), "tau-bench")


def test_agentdojo_rows_take_the_tools_of_their_suite_and_the_status_of_the_error(folder):
    found = imported(folder / "a.jsonl", AGENTDOJO)
    assert found.messages[2].status == "ok"
    assert found.tags["task"] == "bank/user_task_0" and found.tags["success"] == "true"
    failed = copy.deepcopy(AGENTDOJO)
    failed["messages"][2]["error"] = "ValueError: no"
    assert imported(folder / "a.jsonl", failed).messages[2].status == "error"


def test_tau_bench_results_that_begin_with_error_are_errors(folder):
    found = imported(folder / "a.jsonl", TAU_BENCH)
    assert [m.status for m in found.messages if m.role == "tool"] == ["error"]
    assert found.tags["task"] == "bank/4" == imported(folder / "a.jsonl", TAU2_BENCH).tags["task"]


def test_tau2_bench_leaves_out_what_only_the_users_device_sees(folder):
    found = imported(folder / "a.jsonl", TAU2_BENCH)
    assert [m.role for m in found.messages] == ["system", "assistant", "user", "assistant", "tool"]
    assert found.messages[0].content == "The policy."
    assert found.messages[-1].status == "error"


def test_a_tau2_agent_alone_has_the_device_and_the_ticket(folder):
    found = imported(folder / "a.jsonl", {**TAU2_BENCH, "agent": "llm_agent_solo"})
    assert [tool.name for tool in found.tools] == ["f", "switch"]
    assert found.messages[1].content == "Do it alone."


def test_a_tau2_sample_has_the_domain_that_has_its_tools(folder):
    assert imported(folder / "a.jsonl", SAMPLE).tags["task"] == "bank/4"


def test_toolbench_takes_the_last_chain_and_only_a_named_error(folder):
    found = imported(folder / "a.jsonl", TOOLBENCH)
    assert [m.role for m in found.messages] == ["user", "assistant", "tool", "assistant"]
    assert found.messages[0].content == "Do it."
    assert found.messages[2].status == "error"
    assert (found.messages[3].content, found.messages[3].calls[0].name) == ("So I stop.", "Finish")
    quiet = json.loads(json.dumps(TOOLBENCH).replace("Timeout", ""))
    assert imported(folder / "a.jsonl", quiet).messages[2].status == ""


def test_toolllama_rows_have_their_tools_as_a_python_literal(tmp_path):
    row = {
        "id": "Step 1: Do it.",
        "conversations": [
            {"from": "system", "value": f"You have access to: {[FUNCTION]!r}"},
            {"from": "user", "value": "\nDo it.\nBegin!\n"},
            {"from": "assistant", "value": '\nThought: \nAction: f\nAction Input: {"a": "x"}'},
            {"from": "function", "value": '{"error": "", "response": "done"}'},
        ],
    }
    found = imported(tmp_path / "a.jsonl", row)
    assert found.tools[0].name == "f"
    assert found.messages[1].calls[0].arguments == {"a": "x"}


def test_the_tools_file_beside_the_data_is_found_and_another_can_be_named(folder, tmp_path):
    path = write(folder / "a.jsonl", AGENTDOJO)
    assert read(path).files == (str(path), str(folder / "tools.json"))
    other = tmp_path / "other.json.gz"
    with gzip.open(other, "wt") as stream:
        json.dump({"bank": [{"name": "g"}]}, stream)
    source = read(path, tools_path=other)
    assert source.files[:2] == (str(path), str(other))
    assert [tool.name for row in source for tool in row.tools] == ["g"]


def test_files_beside_that_the_rows_depend_on_are_known(folder):
    path = write(folder / "a.jsonl", TAU2_BENCH)
    names = [str(folder / name) for name in ("a.jsonl", "tools.json", "policies.json")]
    assert list(read(path).files) == names
    assert read(write(folder / "b.jsonl", XLAM)).files == (str(folder / "b.jsonl"),)


def test_chats_without_tools_take_those_of_the_named_file(tmp_path):
    path = write(tmp_path / "a.jsonl", {"messages": CHAT})
    tools = write(tmp_path / "tools.jsonl", FUNCTION)
    (without,), (found,) = read(path), read(path, tools_path=tools)
    assert without.tools == ()
    assert [tool.name for tool in found.tools] == ["f"]


def test_a_missing_tools_file_is_the_reason_of_every_row(tmp_path):
    for row in (AGENTDOJO, TAU_BENCH, TAU2_BENCH):
        (bad,) = read(write(tmp_path / "a.jsonl", row))
        assert isinstance(bad, BadRow) and "tools_path" in bad.reason


def test_a_tools_file_that_is_missing_useless_or_broken_is_refused(folder):
    path = write(folder / "a.jsonl", AGENTDOJO)
    with pytest.raises(DataError, match=r"data\.tools_path"):
        read(path, tools_path=folder / "none.json")
    with pytest.raises(ValueError, match="leave data.tools_path empty"):
        read(write(folder / "b.jsonl", XLAM), tools_path=folder / "tools.json")
    (folder / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json: not JSON"):
        read(path, tools_path=folder / "broken.json")
    (folder / "list.json").write_text("[]")
    with pytest.raises(ValueError, match=r"list\.json: expected an object"):
        read(path, tools_path=folder / "list.json")
    (folder / "nameless.json").write_text('{"bank": [{}]}')
    with pytest.raises(ValueError, match=r"nameless\.json: bank: a tool needs"):
        read(path, tools_path=folder / "nameless.json")


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(
        [
            "",
            "[{",
            '"\\ud800"',
            '{"name": "\\udfff"}',
            "<tool_call>{",
            "<tools>",
            "[f(a=(",
            "f",
            "x(",
        ]
    )
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def change_somewhere(row, data):
    """Replace, remove or repeat a random part of a nested row."""
    node, path = row, []
    while isinstance(node, (dict, list)) and node and (not path or data.draw(st.integers(0, 3))):
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        path.append((node, key))
        node = node[key]
    parent, key = path[-1]
    how = data.draw(st.sampled_from(["replace", "remove", "repeat", "cut"]))
    if how == "remove":
        del parent[key]
    elif how == "repeat" and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif how == "cut" and isinstance(parent[key], str):
        parent[key] = parent[key][: data.draw(st.integers(0, len(parent[key])))]
    else:
        parent[key] = data.draw(JUNK)


@settings(max_examples=400, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(ROWS)))
def test_a_mutated_row_is_read_or_is_a_row_error_and_what_is_read_can_be_written(
    data, name, side_files
):
    row = copy.deepcopy(SAMPLE if name == "tau2_bench" and data.draw(st.booleans()) else ROWS[name])
    for _ in range(data.draw(st.integers(1, 3))):
        if row:
            change_somewhere(row, data)
    importer = FORMATS[name]
    assert isinstance(importer.recognise(row), str)
    more = (
        {"tools": importer.load_tools(side_files)} if getattr(importer, "TOOLS_FILES", ()) else {}
    )
    try:
        found = importer.trajectory(row, source="s", line=0, **more)
    except RowError:
        return
    text = json.dumps(to_json(found), ensure_ascii=False)
    text.encode()
    assert from_json(json.loads(text)) == found


@settings(max_examples=100, deadline=None)
@given(row=JUNK, name=st.sampled_from(sorted(ROWS)))
def test_junk_is_not_recognised(row, name):
    assert FORMATS[name].recognise(row) == ""


def test_thoughts_and_weights_survive_json():
    turn = {"role": "assistant", "content": "Hi.", "thoughts": "Greet him.", "weight": 0.5}
    row = {"id": "a", "tools": [], "messages": [{"role": "user", "content": "Hi"}, turn]}
    read_back = from_json(to_json(from_json(row)))
    assert (read_back.messages[1].thoughts, read_back.messages[1].weight) == ("Greet him.", 0.5)
    for weight in (-1, "half", float("inf"), None):
        with pytest.raises(RowError, match="weight"):
            from_json({**row, "messages": [{**turn, "weight": weight}]})
