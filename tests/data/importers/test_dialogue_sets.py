"""Sets of whole dialogues with results: what each one's odd forms become."""

import collections
import json
import time

import pytest
from set_samples import (
    ALPACA,
    API_BANK,
    API_BANK_TABLE,
    INTERCODE,
    LIVE,
    REACT,
    STAR_FORMS,
    TOOLTALK,
    TOOLTALK_TOOLS,
    star_row,
)

from tl_jax.data.importers import (
    BadRow,
    api_bank,
    intercode,
    livemcpbench,
    read,
    star,
    toolalpaca,
    tooltalk,
)
from tl_jax.errors import RowError


def loaded(module, folder, value):
    path = folder / "tools.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return module.load_tools(path)


def roles(found):
    return [(m.role, m.status) for m in found.messages]


def test_api_bank_turns_become_calls_with_the_values_that_ran(tmp_path):
    box = loaded(api_bank, tmp_path, API_BANK_TABLE)
    found = api_bank.trajectory(API_BANK, source="s", line=0, tools=box)
    assert roles(found) == [("user", ""), ("assistant", ""), ("tool", "ok"), ("assistant", ""),
                            ("tool", "error"), ("assistant", "")]  # fmt: skip
    _, first, result, second, error, last = found.messages
    assert first.content == "One moment." and first.calls[0].arguments == {"code": "A", "count": 2}
    assert (result.content, error.content) == ("[1.5]", "ValueError: count")
    assert second.calls[0].arguments == {"code": "B", "count": "x"}
    assert last.content == "It is 1.5.\nAnything else?"
    stock, now = found.tools
    assert [(p.name, p.type, p.description) for p in stock.parameters] == [
        ("code", "string", "Code."),
        ("count", "integer", ""),
    ]
    assert [(p.name, p.type) for p in now.parameters] == [("zone", "string")]
    assert "parameters_of_calls:1" in found.tags["repairs"]


def test_api_bank_level_2_offers_the_searcher_and_what_it_found(tmp_path):
    search = {
        "role": "API",
        "api_name": "ToolSearcher",
        "param_dict": {"keywords": "time"},
        "result": {"input": None, "output": {"name": "Now"}, "exception": None},
    }
    row = {"level": "level-2", "source_path": "QueryStock-level-2.jsonl", "turns": [search]}
    box = loaded(api_bank, tmp_path, API_BANK_TABLE)
    found = api_bank.trajectory(row, source="s", line=0, tools=box)
    assert [tool.name for tool in found.tools] == ["ToolSearcher", "Now"]


def test_tooltalk_calls_are_turns_of_their_own_before_the_text(tmp_path):
    box = loaded(tooltalk, tmp_path, TOOLTALK_TOOLS)
    found = tooltalk.trajectory(TOOLTALK, source="s", line=0, tools=box)
    assert roles(found) == [("system", ""), ("user", ""), ("assistant", ""), ("tool", "ok"),
                            ("assistant", ""), ("tool", "error"), ("assistant", "")]  # fmt: skip
    assert found.messages[0].content == "location: Rome\nsession_token: t1"
    assert [m.content for m in found.messages[-3:]] == ["", "No session.", "Done."]
    assert [tool.name for tool in found.tools] == ["AddAlarm", "FindAlarms"]
    assert found.tools[0].parameter("session_token").required
    assert found.tools[1].parameters == ()


def test_tooltalk_values_listed_at_the_wrong_parameter_are_moved(tmp_path):
    parameters = {"name": {"type": "string", "enum": ["meeting"]}, "event_type": {"type": "string"}}
    tool = {"suite_file": "c", "name": "CreateEvent", "parameters": parameters}
    found = loaded(tooltalk, tmp_path, [tool]).tools.tools["CreateEvent"]
    assert "enum" not in found.parameter("name").schema
    assert found.parameter("event_type").schema["enum"] == ["meeting"]


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("Day", '"Friday"', "Friday"),
        ("Day", 'api.is_equal_to("Friday")', "Friday"),
        ("Day", 'api.is_equal_to(["Friday"])', "Friday"),
        ("Day", 'api.is_one_of(["Friday","Sunday"])', ["Friday", "Sunday"]),
        ("Price", "3996", 3996),
        ("Price", "api.is_at_most(10.5)", {"is_at_most": 10.5}),
        ("Code", " 0314 ", "0314"),
        ("Code", "639431", "639431"),
        ("Code", '"a \\"b\\""', 'a "b"'),
        ("Code", "True", "True"),
        ("Near", 'api.contains("Park")', "Park"),
        ("Near", 'api.contains_not("Park")', {"contains_not": "Park"}),
        ("Lift", "True", True),
        ("RequestType", '"Book"', "Book"),
        ("Day", "null", None),
        ("Day", "", None),
        ("Price", "api.is_at_least(null)", None),
        ("Price", "api.is_equal_to()", None),
    ],
)
def test_star_values_are_what_the_form_meant(tmp_path, name, written, value):
    box = loaded(star, tmp_path, STAR_FORMS)
    found = star.trajectory(star_row({name: written}), source="s", line=0, tools=box)
    arguments = found.messages[2].calls[0].arguments
    assert arguments == ({} if value is None else {name: value})
    if value is not None:
        assert type(arguments[name]) is type(value)


def test_star_joins_conditions_and_else_takes_the_last(tmp_path):
    box = loaded(star, tmp_path, STAR_FORMS)
    row = star_row(
        {"Price": "api.is_at_least(3)"},
        {"Day": '"Friday"'},
        {"Code": '"x"'},
        {"Price": "api.is_at_most(9)"},
        {"Day": '"Sunday"'},
        {"Code": "null"},
    )
    found = star.trajectory(row, source="s", line=0, tools=box)
    assert dict(found.messages[2].calls[0].arguments) == {
        "Price": {"is_at_least": 3, "is_at_most": 9},
        "Day": "Sunday",
    }


def test_star_keeps_what_was_said_and_returned_only(tmp_path):
    box = loaded(star, tmp_path, STAR_FORMS)
    read_row = star_row({"Day": '"Friday"'}, Item={"Message": "Booked."})
    found = star.trajectory(read_row, source="s", line=0, tools=box)
    assert [m.content for m in found.messages] == [
        "Help.", "Hi", "", '{"Message": "Booked."}', "There you are."
    ]  # fmt: skip
    none = star.trajectory(star_row(TotalItems=0), source="s", line=0, tools=box).messages[3]
    assert json.loads(none.content) == {"TotalItems": 0}
    some = star_row(TotalItems=2, Item={"id": 1})
    content = star.trajectory(some, source="s", line=0, tools=box).messages[3].content
    assert json.loads(content) == {"TotalItems": 2, "Item": {"id": 1}}
    (tool,) = found.tools
    assert tool.parameter("Day").required and tool.parameter("Day").type == "any"
    assert tool.parameter("Price").schema["anyOf"][0] == {"type": "number", "minimum": 1}
    assert tool.parameter("RequestType").schema["enum"] == ["Book", "Check"]


def test_intercode_actions_are_calls_of_one_tool():
    found = intercode.trajectory(INTERCODE, source="s", line=2)
    user, call, result, blocked = found.messages
    assert user.content == "How many?"
    assert call.calls[0].arguments == {"query": "SELECT 1"}
    assert (result.content, result.status) == ("[(1,)]", "ok")
    assert (blocked.content, blocked.status, blocked.calls) == ("blocked", "error", ())
    assert [tool.name for tool in found.tools] == ["execute_sql"]
    assert found.tags == {
        "task": "intercode/dev_spider/7",
        "domain": "ic_sql",
        "success": "true",
        "model": "gpt-4",
    }


def test_intercode_runs_with_thoughts_lose_their_wrapping_and_can_submit():
    found = intercode.trajectory(REACT, source="s", line=2)
    calls = [(m.content, m.calls[0].name, dict(m.calls[0].arguments)) for m in found.messages[1::2]]
    assert calls == [
        ("I look.", "execute_bash", {"command": "ls [a-z]*"}),
        ("Again.", "execute_bash", {"command": "ls"}),
        ("Done.", "submit", {}),
    ]
    assert [m.status for m in found.messages[2::2]] == ["ok", "error", ""]
    assert [tool.name for tool in found.tools] == ["execute_bash", "submit"]


def test_intercode_lists_that_do_not_fit_are_refused():
    history = {**INTERCODE["turn_history"], "observations": ["a", "b", "c"]}
    with pytest.raises(RowError, match="3 observations for 2 actions"):
        intercode.trajectory({**INTERCODE, "turn_history": history}, source="s", line=0)
    with pytest.raises(RowError, match="unknown environment 'ic_ctf'"):
        intercode.trajectory({**INTERCODE, "environment": "ic_ctf"}, source="s", line=0)


def test_livemcpbench_results_say_whether_they_failed():
    found = livemcpbench.trajectory(LIVE, source="s", line=0)
    assert [m.status for m in found.messages] == ["", "", "error", "", "", ""]
    assert found.messages[1].calls[0].arguments == {"query": "pdf"}
    assert [tool.name for tool in found.tools] == ["route", "execute-tool"]
    assert found.tags["success"] == "true"


def test_every_instance_of_a_toolalpaca_api_is_read_or_refused_alone(tmp_path):
    path = tmp_path / "train_data.json"
    path.write_text(json.dumps([ALPACA, {**ALPACA, "Instances": []}]))
    source = read(path)
    assert source.format == "toolalpaca"
    good, *bad = source
    assert [row.reason for row in bad] == [
        "an instance without intermediate_steps",
        "an instance without intermediate_steps",
        "the API has no instances",
    ]
    assert [row.line for row in bad] == [0, 0, 1] and all(isinstance(r, BadRow) for r in bad)
    assert bad[1].row["Instances"] == ["error"]
    user, call, result, broken, _, last = good.messages
    assert (user.content, last.content) == ("Show a.", "Here.")
    assert (call.content, call.calls[0].arguments) == ("I look.", {"kind": "a"})
    assert result.content == "Status: 200"
    assert broken.status == "error" and broken.calls == ()
    assert good.id == "Zoo-0:0" and good.tags["domain"] == "Animals"


def test_toolalpaca_tools_come_from_the_openapi_text():
    (alone, *_) = toolalpaca.split(ALPACA)
    ask, find, make = toolalpaca.trajectory(alone, source="s", line=0).tools
    assert ask.name == "getDetails" and ask.parameters[0].required
    (kind,) = find.parameters
    assert (kind.name, kind.type, kind.required) == ("kind", "string", True)
    assert kind.schema["enum"] == ["a", "b"]
    assert make.description == "Make one."
    assert [(p.name, p.type, p.required) for p in make.parameters] == [
        ("size", "integer", True),
        ("more", "any", False),
    ]


def with_schemas(schemas):
    spec = {**json.loads(ALPACA["Documentation"]), "components": {"schemas": schemas}}
    return {**ALPACA, "Documentation": json.dumps(spec)}


def refers(*names):
    return {name: {"$ref": f"#/components/schemas/{name}"} for name in names}


def test_a_schema_within_itself_stands_for_anything():
    inner = {"properties": {"size": {"type": "integer"}, **refers("N", "M")}}
    row = with_schemas({"N": inner, "M": {"properties": refers("N", "M")}})
    begin = time.process_time()
    *_, make = toolalpaca.api_tools(row, collections.Counter())
    assert time.process_time() - begin < 0.5
    assert [parameter.name for parameter in make.parameters] == ["size", "N", "M"]
    assert make.parameters[1].schema == {}
    assert make.parameters[2].schema == {"properties": {"N": {}, "M": {}}}


def test_references_that_unfold_without_end_are_refused():
    names = [*"NABCDEFGHIJKLMOP"]
    chain = {
        name: {"type": "object", "properties": {k: refers(after)[after] for k in "abcd"}}
        for name, after in zip(names, names[1:] + ["Q"], strict=True)
    }
    row = with_schemas({**chain, "Q": {"type": "integer"}})
    with pytest.raises(RowError, match="over 200000 values behind references"):
        toolalpaca.api_tools(row, collections.Counter())


def test_toolalpaca_evaluation_rows_are_refused(tmp_path):
    row = {**ALPACA, "Golden_Answers": []}
    del row["Instances"]
    path = tmp_path / "eval.jsonl"
    path.write_text(json.dumps(row) + "\n")
    source = read(path)
    assert source.format == "toolalpaca"
    (bad,) = source
    assert "must not be trained on" in bad.reason
