"""A tool keeps the declaration it was read from for as long as it says the same."""

import dataclasses
import json
from collections import Counter

import pytest

from tl_jax.calls.call import (
    Parameter,
    ToolSpec,
    tool_entry,
    tool_from_json,
    tool_from_schema,
    tool_to_json,
    tool_to_schema,
)
from tl_jax.data.importers.schemas import normalised_tool

PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
GIVEN = {
    "strict": True,
    "name": "f",
    "parameters": {
        "required": ["b", "a"],
        "properties": {
            "a": {"$ref": "#/$defs/Person", "description": "Who."},
            "b": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Person"}]},
            "c": {"type": ["string", "null"], "default": None},
        },
        "additionalProperties": False,
        "$defs": {"Person": PERSON},
        "type": "object",
    },
}


@pytest.mark.parametrize("read", [tool_from_schema, lambda f: normalised_tool(f, Counter())])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_declaration_comes_back_as_given_key_by_key(read, wrapped):
    entry = {"type": "function", "function": GIVEN} if wrapped else GIVEN
    tool = read(entry)
    assert json.dumps(tool_to_schema(tool)) == json.dumps(GIVEN)
    assert json.dumps(tool_entry(tool)) == json.dumps({"type": "function", "function": GIVEN})
    again = tool_from_json(json.loads(json.dumps(tool_to_json(tool))))
    assert again == tool and json.dumps(tool_entry(again)) == json.dumps(tool_entry(tool))


def test_a_tool_that_says_something_else_is_written_anew():
    tool = tool_from_schema(GIVEN)
    renamed = dataclasses.replace(tool, name="g")
    shorter = dataclasses.replace(tool, parameters=tool.parameters[:1])
    for changed, name, count in ((renamed, "g", 3), (shorter, "f", 1)):
        written = tool_to_schema(changed)
        assert written["name"] == name and len(written["parameters"]["properties"]) == count
        assert "strict" not in written and "$ref" not in json.dumps(written)
        assert tool_from_json(tool_to_json(changed)) == changed
    back = dataclasses.replace(renamed, name="f")
    assert tool_to_schema(back) == GIVEN


def test_names_of_types_are_repaired_for_us_and_stay_as_given_for_the_template():
    odd = {"name": "f", "parameters": {"type": "dict", "properties": {"a": {"type": "float"}}}}
    tool = normalised_tool(odd, Counter())
    assert tool.parameters[0].type == "number" and tool_to_schema(tool) == odd
    again = tool_from_json(json.loads(json.dumps(tool_to_json(tool))))
    assert again == tool and tool_to_schema(again) == odd


def test_a_declaration_that_templates_could_not_read_is_repaired_for_them_too():
    for odd in (
        {"name": "f", "input_schema": {"properties": {"a": {"type": "string"}}}},
        {"name": "f g", "parameters": {"properties": {"a": {"type": "string"}}}},
        {"name": "f", "parameters": {"a": {"type": "string"}}},
    ):
        written = tool_to_schema(normalised_tool(odd, Counter()))
        assert written["name"] in ("f", "f_g") and written != odd
        assert written["parameters"]["properties"] == {"a": {"type": "string"}}


def test_local_references_are_put_in_place():
    first, second, _ = tool_from_schema(GIVEN).parameters
    assert first.type == "object" and first.description == "Who."
    assert first.schema == {**PERSON, "description": "Who."}
    assert second.schema == {"anyOf": [{"type": "string"}, PERSON]}


def test_references_that_lead_nowhere_or_into_themselves_end():
    tree = {"type": "object", "properties": {"child": {"$ref": "#/$defs/T"}}}
    wide = {f"D{i}": {"allOf": [{"$ref": f"#/$defs/D{i + 1}"}] * 4} for i in range(30)}
    properties = {
        "tree": {"$ref": "#/$defs/T"},
        "none": {"$ref": "#/$defs/U"},
        "far": {"$ref": "https://example.org/a.json"},
        "wide": {"$ref": "#/$defs/D0"},
    }
    schema = {"properties": properties, "$defs": {"T": tree, **wide}}
    tool = tool_from_schema({"name": "f", "parameters": schema})
    assert tool.parameter("tree").schema["properties"] == {"child": {}}
    assert tool.parameter("none").schema == tool.parameter("far").schema == {}
    assert "$ref" not in json.dumps(tool.parameter("wide").schema)


def test_a_tool_without_a_declaration_is_written_from_its_fields():
    tool = ToolSpec("f", "D.", (Parameter("a", "string", "A.", True),))
    assert tool_to_schema(tool) == {
        "name": "f",
        "description": "D.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "string", "description": "A."}},
            "required": ["a"],
        },
    }
    assert tool_to_schema(tool_from_json(tool_to_json(tool))) == tool_to_schema(tool)
