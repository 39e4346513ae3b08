"""Typed equality of values and calls."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.calls.call import Parameter, ToolSpec
from tl_jax.calls.compare import differing, values_equal

NUMBERS = {"type": "array", "items": {"type": "number"}}
POINT = {"type": "object", "properties": {"x": {"type": "number"}, "n": {"type": "integer"}}}
TOOL = ToolSpec(
    "f",
    parameters=(
        Parameter("x", "number"),
        Parameter("n", "integer"),
        Parameter("list", "array", schema=NUMBERS),
        Parameter("rest", "array", schema={"items": {"type": "number"}}),
    ),
)


@pytest.mark.parametrize(
    "left,right,type,equal",
    [
        ("a", "a", None, True),
        ("a", "A", "string", False),
        (" a", "a", "string", False),
        ("e\u0301", "\u00e9", "string", True),
        ("1", 1, None, False),
        ("1", 1, "integer", False),
        ("", None, None, False),
        (None, None, None, True),
        (None, False, None, False),
        (0, False, "integer", False),
        (1, True, "number", False),
        (True, True, None, True),
        (1, 1, None, True),
        (1, 1.0, None, False),
        (1, 1.0, "any", False),
        (1, 1.0, "integer", False),
        (1, 1.0, "number", True),
        (1, 1.5, "number", False),
        (1.0, 1, {"type": ["number", "null"]}, True),
        ((1, 2), [1, 2], None, True),
        ([1, 2], [2, 1], None, False),
        ([1], [1, 1], None, False),
        ([1, True], [1.0, 1], NUMBERS, False),
        ([1, 2], [1.0, 2.0], NUMBERS, True),
        ([1, 2], [1.0, 2.0], None, False),
        ([], {}, None, False),
        ({"x": 1, "n": 1}, {"n": 1, "x": 1.0}, POINT, True),
        ({"x": 1, "n": 1}, {"n": 1.0, "x": 1}, POINT, False),
        ({"x": 1}, {"y": 1}, None, False),
        (1, 1.0, {"anyOf": [{"type": "null"}, {"type": "number"}]}, True),
        (1, 1.0, {"oneOf": [{"type": "null"}, {"type": "integer"}]}, False),
        ([1], [1.0], {"anyOf": [NUMBERS, {"type": "null"}]}, True),
        ([1], [1.0], {"anyOf": "broken"}, False),
        (None, 0, {"anyOf": [{"type": "null"}, {"type": "number"}]}, False),
        ({"k": ["e\u0301"]}, {"k": ["\u00e9"]}, None, True),
    ],
)
def test_values_are_compared_with_their_types(left, right, type, equal):
    assert values_equal(left, right, type) is equal
    assert values_equal(right, left, type) is equal


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_a_value_equals_itself(value):
    assert values_equal(value, value)


def test_arguments_are_compared_by_declared_type_in_any_order():
    assert differing({"x": 1, "n": 2}, {"n": 2, "x": 1.0}, TOOL) == ()
    assert differing({"x": 1, "n": 2.0}, {"n": 2, "x": 1}, TOOL) == ("n",)
    assert differing({"list": [1]}, {"list": [1.0]}, TOOL) == ()
    assert differing({"rest": [1]}, {"rest": [1.0]}, TOOL) == ()
    assert differing({"x": 1}, {"x": 1.0}) == ("x",)


def test_differing_names_only_shared_arguments():
    assert differing({"x": 1, "n": 3, "z": 0}, {"n": 2, "x": 1, "y": 0}, TOOL) == ("n",)
