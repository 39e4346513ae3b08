"""Sets whose rows are gold calls or single decisions, without feedback to every call."""

import copy
import json
import time

import pytest
from set_samples import FOUND, LV3, NESTFUL, NESTFUL_TOOLS, SEAL, SEAL_TOOLS, TOOLRL

from tl_jax.data.importers import api_bank_steps, nestful, read, seal_tools, toolrl
from tl_jax.data.importers.toolbox import CANDIDATES
from tl_jax.errors import DataError, RowError


def beside(folder, name, value):
    (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return folder / name


def seal_box(folder):
    lines = "".join(json.dumps(tool) + "\n" for tool in SEAL_TOOLS)
    (folder / "tools.jsonl").write_text(lines, encoding="utf-8")
    return seal_tools.load_tools(folder / "tools.jsonl")


def test_seal_tools_calls_are_one_plan_of_renamed_tools(tmp_path):
    box = seal_box(tmp_path)
    found = seal_tools.trajectory(SEAL, source="s", line=0, tools=box)
    system, user, plan = found.messages
    assert "API_call_N" in system.content and user.content == "Grow tomatoes."
    assert [call.name for call in plan.calls] == ["plant", "tell_me"]
    assert plan.calls[1].arguments == {"about": "API_call_0"}
    plant = next(tool for tool in found.tools if tool.name == "plant")
    assert [p.required for p in plant.parameters] == [True, False]
    assert plant.description == "To plant. Responses: result."


def test_offered_tools_hold_the_called_ones_at_no_fixed_place(tmp_path):
    box = seal_box(tmp_path)
    places = set()
    for number in range(40):
        names = box.candidates(["plant"], f"row {number}")
        assert len(set(names)) == CANDIDATES and "plant" in names
        assert names == box.candidates(["plant"], f"row {number}")
        places.add(names.index("plant"))
    assert places == set(range(CANDIDATES))


def test_more_called_tools_than_candidates_are_all_offered(tmp_path):
    names = [tool["api_name"] for tool in SEAL_TOOLS[:14]]
    assert sorted(seal_box(tmp_path).candidates(names, "k")) == sorted(names)


def test_a_row_without_its_tools_says_which_file_is_missing():
    with pytest.raises(RowError, match=r"tools\.jsonl"):
        seal_tools.trajectory(SEAL, source="s", line=0, tools=None)


def test_a_file_that_holds_no_tools_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"x\.json"):
        nestful.load_tools(beside(tmp_path, "x.json", [{"nome": "a"}]))
    with pytest.raises(DataError, match=r"x\.json: no tools"):
        nestful.load_tools(beside(tmp_path, "x.json", []))


def test_nestful_finds_the_specification_of_its_own_file(tmp_path):
    for stem, names in (("one", ("airport", "fly")), ("two", ("airport",))):
        (tmp_path / f"{stem}.jsonl").write_text(json.dumps(NESTFUL) + "\n")
        tools = [tool for tool in NESTFUL_TOOLS if tool["name"] in names]
        beside(tmp_path, f"{stem}-spec.json", tools)
        source = read(tmp_path / f"{stem}.jsonl")
        assert source.format == "nestful"
        assert source.files == (
            str(tmp_path / f"{stem}.jsonl"),
            str(tmp_path / f"{stem}-spec.json"),
        )
        (found,) = source
        assert {tool.name for tool in found.tools} == set(names)


def test_nestful_keeps_the_result_beside_the_calls(tmp_path):
    box = nestful.load_tools(beside(tmp_path, "x-spec.json", NESTFUL_TOOLS))
    found = nestful.trajectory(NESTFUL, source="s", line=0, tools=box)
    assert [call.name for call in found.messages[-1].calls] == ["airport", "fly"]
    assert json.loads(found.tags["result"]) == {"flights": "$var2$"}
    fly = next(tool for tool in found.tools if tool.name == "fly")
    assert [(p.type, p.required) for p in fly.parameters] == [
        ("string", True),
        ("string", False),
        ("number", False),
    ]
    assert fly.parameters[1].schema["enum"] == ["best", "cheap"]
    assert "enum" not in fly.parameters[2].schema
    assert fly.description == "Fly. Result: price, time."


def test_api_bank_steps_keep_earlier_steps_as_context():
    found = api_bank_steps.trajectory(LV3, source="s", line=4)
    user, search, result, last = found.messages
    assert user.content == "Find a clinic.TIME: 10"
    assert search.calls[0].arguments == {"keywords": "x"}
    assert result.content == FOUND
    assert (last.calls[0].name, last.calls[0].arguments) == ("Clinic", {"city": "LA"})
    assert [tool.name for tool in found.tools] == ["ToolSearcher", "Clinic"]
    assert found.tags["target"] == "last"


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("F(a=New York, b=2, c=x)", {"a": "New York", "b": 2, "c": "x"}),
        ("[F(place=St. Louis, MO, n=3)]", {"place": "St. Louis, MO", "n": 3}),
        ("[F(a='x', time=10:00)]", None),
        ("F(=x)", None),
        ("F(a=, b=2)", None),
        ("F(a=x, a=y)", None),
        ("F a=x", None),
    ],
)
def test_values_without_quotes_are_text_only_where_that_is_clear(text, arguments):
    row = {**LV3, "output": f"API-Request: {text}"}
    last = api_bank_steps.trajectory(row, source="s", line=0).messages[-1]
    if arguments is None:
        assert last.status == "error" and last.content == text
    else:
        assert last.calls[0].arguments == arguments


def test_toolrl_decisions_have_structured_history_and_calls():
    found = toolrl.trajectory(TOOLRL, source="s", line=0)
    user, call, result, reply, again, last = found.messages
    assert [m.role for m in found.messages] == ["user", "assistant", "tool", "assistant", "user",
                                               "assistant"]  # fmt: skip
    assert (user.content, again.content) == ("Who?", "And then?")
    assert (call.content, call.thoughts, call.calls[0].name) == ("", "T.", "Now")
    assert json.loads(result.content) == {"name": "Now", "results": 3}
    assert (reply.content, reply.thoughts) == ("I am <b>.", "Y.")
    assert (last.content, last.thoughts) == ("", "I look\nwell.")
    assert [(c.name, dict(c.arguments)) for c in last.calls] == [
        ("Search_Managers", {"name": "A"}),
        ("Now", {}),
    ]
    managers = found.tools[0]
    assert (managers.name, managers.description) == ("Search_Managers", "Search\nwell.")
    assert [(p.name, p.type, p.required) for p in managers.parameters] == [
        ("name", "string", True),
        ("page", "integer", False),
    ]
    assert found.tags["target"] == "last" and "renamed_tool:1" in found.tags["repairs"]


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        ("input", "**Dialogue Records History**\n<user> x", "not closed"),
        ("input", "**Dialogue Records History**\nx <user> y </user>", "begin"),
        ("output", "", "one turn"),
        ("output", "<user> x </user>", "one turn"),
        ("instruction", "**Available Tools**\nnone", "no tools"),
        # The parameters of the next tool are not those of this one.
        (
            "instruction",
            "**Available Tools**\n1. Name: A\nDescription: a\n2. Name: B\n"
            "Description: b\nParameters: {}",
            "the tool A has no description or no parameters",
        ),
        ("instruction", "**Available Tools**\n1. Name: A\nParameters: {}", "the tool A has no"),
    ],
)
def test_texts_that_are_not_as_they_should_be_are_refused(key, text, reason):
    with pytest.raises(RowError, match=reason):
        toolrl.trajectory({**TOOLRL, key: text}, source="s", line=0)


@pytest.mark.parametrize(
    "piece",
    ["1. Name: A\nDescription: a\n", "1. Name: A\n", "Description: \n", "1", "\nParameters: "],
)
def test_a_hostile_list_of_tools_is_refused_at_once(piece):
    text = "**Available Tools**\n1. Name: A\nDescription: " + piece * 20_000
    begin = time.process_time()
    with pytest.raises(RowError):
        toolrl.trajectory({**TOOLRL, "instruction": text}, source="s", line=0)
    assert time.process_time() - begin < 1


def test_a_call_with_words_beside_it_keeps_them_before_the_call():
    row = copy.deepcopy(TOOLRL)
    row["output"] += "\n<response> One moment. </response>"
    last = toolrl.trajectory(row, source="s", line=0).messages[-1]
    assert (last.content, last.thoughts) == ("One moment.", "I look\nwell.")
    assert len(last.calls) == 2


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"])
def test_a_call_goes_on_to_the_end_of_its_line(mark):
    call = json.dumps({"name": "Now", "parameters": {"x": f"a{mark}b"}}, ensure_ascii=False)
    row = {**TOOLRL, "output": f"<think> T. </think>\n<tool_call>\n{call}\n{call}\n</tool_call>"}
    last = toolrl.trajectory(row, source="s", line=0).messages[-1]
    assert [dict(c.arguments) for c in last.calls] == [{"x": f"a{mark}b"}] * 2


def test_a_call_that_is_no_json_is_a_turn_without_calls():
    row = {**TOOLRL, "output": "<think> T. </think>\n<tool_call>\n{broken\n</tool_call>"}
    last = toolrl.trajectory(row, source="s", line=0).messages[-1]
    assert (last.status, last.content, last.thoughts) == ("error", "{broken", "T.")
