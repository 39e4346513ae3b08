"""Schemas: what each repair makes of a declaration, and that every repair is counted."""

import json
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.calls.call import ToolSpec, tool_to_schema
from tl_jax.data.importers import BadRow, read
from tl_jax.data.importers.schemas import (
    REPAIRS,
    normalised_tool,
    normalised_tools,
    repair_counts,
    repair_tags,
    writable_name,
)
from tl_jax.data.trajectory import to_json
from tl_jax.errors import RowError


def repaired(function):
    repairs = Counter()
    tool = normalised_tool(function, repairs)
    return tool, dict(+repairs)


def declared(properties, **more):
    return {"name": "f", "parameters": {"type": "object", "properties": properties, **more}}


SOUND = {
    "name": "f",
    "description": "F.",
    "parameters": {
        "type": "object",
        "properties": {
            "a": {"type": "string", "enum": ["x"], "description": "A."},
            "b": {"type": ["integer", "null"], "default": 3},
            "c": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}]},
        },
        "required": ["a"],
    },
}


def test_a_sound_declaration_is_left_as_it_is():
    tool, repairs = repaired({"type": "function", "function": SOUND})
    assert tool_to_schema(tool) == SOUND
    assert repairs == {}


@pytest.mark.parametrize(
    ("found", "name", "more"),
    [
        ("str", "string", {}),
        ("Float", "number", {}),
        ("dict", "object", {}),
        ("bool", "boolean", {}),
        ("List[int]", "array", {"items": {"type": "integer"}}),
        ("list<string>", "array", {"items": {"type": "string"}}),
        ("Dict[str, int]", "object", {}),
        ("Tuple[float, float]", "array", {"items": {"type": "number"}}),
    ],
)
def test_type_names_become_those_of_json_schema(found, name, more):
    tool, repairs = repaired(declared({"a": {"type": found}}, required=["a"]))
    (parameter,) = tool.parameters
    assert (parameter.type, parameter.schema) == (name, {"type": name, **more})
    assert parameter.required
    assert repairs == {"type_name": 1}


def test_types_inside_types_are_renamed_too():
    inner = {"type": "dict", "properties": {"x": {"type": "float"}}, "required": ["x"]}
    tool, repairs = repaired(declared({"a": {"type": "list", "items": inner}}))
    assert tool.parameters[0].schema["items"] == {
        "type": "object",
        "properties": {"x": {"type": "number"}},
        "required": ["x"],
    }
    assert repairs == {"type_name": 3}


@pytest.mark.parametrize("kind", ["any", "Any"])
def test_any_type_is_no_type(kind):
    tool, repairs = repaired(declared({"a": {"type": kind}}))
    assert (tool.parameters[0].type, tool.parameters[0].schema) == ("any", {})
    assert repairs == {"type_name": 1}


@pytest.mark.parametrize("kind", ["a list of names", "", "x" * 10_000])
def test_an_unknown_type_is_removed(kind):
    tool, repairs = repaired(declared({"a": {"type": kind}}))
    assert tool.parameters[0].type == "any"
    assert repairs == {"unknown_type": 1}


@pytest.mark.parametrize(
    "kind",
    [
        *("str, optional", "str (optional)", "Optional[str]", "str, optional, default 'a, b'"),
        *("str (optional, default: 3)", "str; default [1]", "str optional;"),
    ],
)
def test_a_type_that_says_optional_makes_the_others_required(kind):
    tool, repairs = repaired(
        declared({"a": {"type": "string"}, "b": {"type": kind}, "c": {"default": 1}})
    )
    assert [(p.name, p.type, p.required) for p in tool.parameters] == [
        ("a", "string", True),
        ("b", "string", False),
        ("c", "any", False),
    ]
    assert repairs == {"missing_required": 1, "type_name": 1}


@pytest.mark.parametrize(
    "kind",
    [
        *("optional" * 24 + "!", "optional " * 21 + "!", " optional(" * 18 + "x"),
        *(",(" * 99 + "x", "default " * 20 + "\n!", "(" * 199, " " * 199, "List[" * 39),
    ],
)
def test_a_hostile_type_is_read_at_once(kind):
    begin = time.process_time()
    repaired(declared({"a": {"type": kind}, "b": kind}))
    assert time.process_time() - begin < 0.1


@pytest.mark.parametrize("text", ["date (optional) in ISO form", "List of optional[int]"])
def test_a_word_within_a_description_is_no_mark_of_an_optional_type(text):
    tool, _ = repaired(declared({"a": text}, required=["a"]))
    assert tool.parameters[0].description == text


def test_parameters_without_a_schema_round_them_are_found_even_if_one_is_called_type():
    tool, repairs = repaired(
        {"name": "f", "parameters": {"type": {"type": "str"}, "n": {"type": "int", "default": 1}}}
    )
    assert [(p.name, p.type, p.required) for p in tool.parameters] == [
        ("type", "string", True),
        ("n", "integer", False),
    ]
    assert repairs == {"properties_without_schema": 1, "missing_required": 1, "type_name": 2}


def test_a_schema_without_properties_has_no_parameters():
    tool, repairs = repaired({"name": "f", "parameters": {"type": "object", "required": []}})
    assert tool == ToolSpec("f")
    assert repairs == {}


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ({**declared({"a": {}}), "required": ["a"]}, "required_beside_parameters"),
        (declared({"a": {"required": True}, "b": {"required": False}}), "required_in_property"),
        (declared({"a": {}}, required="a"), "required_not_list"),
        (declared({"a": {}}, required=["a", "z"]), "unknown_required"),
        (declared([{"name": "a"}], required=["a"]), "properties_as_list"),
        ({"name": "f", "parameters": [{"name": "a", "required": "yes"}]}, "properties_as_list"),
        ({"name": "f", "parameters": json.dumps(SOUND["parameters"])}, "parameters_as_text"),
        ({"name": "f", "input_schema": SOUND["parameters"]}, "parameters_key"),
        (declared({"a": "string"}, required=["a"]), "property_as_text"),
        (declared({"a": 3}, required=["a"]), "property_not_object"),
        (declared({" a": {}}, required=[" a"]), "renamed_parameter"),
    ],
)
def test_the_first_parameter_is_required_after_a_counted_repair(function, kind):
    tool, repairs = repaired(function)
    assert (tool.parameters[0].name, tool.parameters[0].required) == ("a", True)
    assert "required" not in tool.parameters[0].schema
    assert repairs[kind] == 1
    assert kind in REPAIRS


def test_the_misspelt_description_is_read():
    tool, repairs = repaired({"name": "f", "desciption": "F.", **{"parameters": {"properties": {
        "a": {"type": "string", "desciption": "A."}}}}})  # fmt: skip
    assert (tool.description, tool.parameters[0].description) == ("F.", "A.")
    assert repairs == {"misspelt_description": 2}


def test_names_that_no_call_can_hold_are_renamed_and_can_be_kept():
    function = {**declared({"a b": {}, "a_b": {}}), "name": "Get (the) weather"}
    tool, repairs = repaired(function)
    assert tool.name == writable_name("Get (the) weather") == "Get_the_weather"
    assert [p.name for p in tool.parameters] == ["a_b"]
    assert repairs == {"renamed_tool": 1, "renamed_parameter": 1, "duplicate_parameter": 1}
    kept = normalised_tool(function, Counter(), keep_names=True)
    assert [kept.name, *(p.name for p in kept.parameters)] == ["Get (the) weather", "a b", "a_b"]


def test_tools_may_be_text_and_repeated_ones_are_dropped():
    repairs = Counter()
    tools = normalised_tools(json.dumps([SOUND, {"name": "g"}, SOUND]), repairs)
    assert [tool.name for tool in tools] == ["f", "g"]
    assert repair_tags(repairs) == {"repairs": "duplicate_tool:1"}
    assert normalised_tools("", Counter()) == normalised_tools(None, Counter()) == ()


def test_the_tag_is_sorted_and_absent_without_repairs():
    assert repair_tags(Counter({"b": 2, "a": 1, "c": 0})) == {"repairs": "a:1,b:2"}
    assert repair_tags(Counter()) == {}
    for repairs in (Counter({"b": 2, "a": 1}), Counter()):
        assert repair_counts(repair_tags(repairs)) == repairs


@pytest.mark.parametrize("tag", ["none", "a:1,", "a:-1", "a:1:2", ":1", 5, None, ["a:1"]])
def test_a_tag_of_repairs_that_says_something_else_is_a_bad_row(tag, trajectory, tmp_path):
    row = to_json(trajectory)
    rows = [{**row, "tags": {"repairs": value}} for value in ("type_name:2", "", tag)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    *good, bad = read(path)
    assert [repair_counts(found.tags) for found in good] == [{"type_name": 2}, {}]
    assert isinstance(bad, BadRow) and "the tag 'repairs' must be" in bad.reason


@pytest.mark.parametrize(
    "tools",
    [[{}], [{"name": " "}], [3], "[", 7, [declared({"a": {}}, x=1) | {"parameters": 3}]],
)
def test_what_cannot_be_read_is_a_row_error(tools):
    with pytest.raises(RowError):
        normalised_tools(tools, Counter())


PART = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"allOf": [PART, {"properties": {"b": {}}}]}, [("a", True), ("b", False)]),
        ({"type": "object", "oneOf": [PART, {"required": ["b"]}]}, [("a", False)]),
        ({"$ref": "#/$defs/P", "$defs": {"P": PART}}, [("a", True)]),
        ({"anyOf": [{"$ref": "#/$defs/P"}], "$defs": {"P": PART}}, [("a", False)]),
        ({"type": "object", "patternProperties": {"^a": {}}}, []),
        ({"type": "object", "properties": {"a": True}}, [("a", False)]),
        ({"not": {"type": "string"}}, [("not", True)]),
    ],
)
def test_parameters_in_parts_of_a_schema_are_found_and_it_is_written_as_given(parameters, found):
    repairs = Counter()
    declared = {"name": "f", "description": "", "parameters": parameters}
    tool = normalised_tool(declared, repairs)
    assert [(parameter.name, parameter.required) for parameter in tool.parameters] == found
    if found != [("not", True)]:
        assert tool_to_schema(tool) == declared and not +repairs


WORDS = st.sampled_from(
    ["name", "type", "properties", "required", "description", "desciption", "items", "anyOf",
     "parameters", "default", "function", "optional", "enum", "a", "a b", "(", "str, optional",
     "List[int]", "object", "true", "allOf", "oneOf", "$ref"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(parameters=VALUES, more=st.dictionaries(WORDS, VALUES, max_size=3))
def test_any_declaration_is_refused_or_becomes_one_that_needs_no_repair(parameters, more):
    repairs = Counter()
    try:
        tool = normalised_tool({**more, "name": "f", "parameters": parameters}, repairs)
    except RowError:
        return
    assert repairs.keys() <= REPAIRS.keys()
    written = tool_to_schema(tool)
    again, left = repaired(written)
    assert tool_to_schema(again) == written
    assert left == {}
