"""Gold answers that are written as Python calls, as some sets have them; nothing is evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.parse import CallSyntaxError, parse_call

_ARITHMETIC = re.compile(r"(\d{1,9})\s*([*/])\s*([1-9]\d{0,8})")


def read_gold_call(text: str, tools: Sequence[ToolSpec]) -> ToolCall:
    """Read one gold call.

    Beside what ``parse_call`` reads, arguments may have no names, and are then those of the tool in
    the order of its parameters; a value may be the product or the quotient of two whole numbers;
    and a float that is whole is an integer where the tool declares one.

    Args:
      text: The call.
      tools: The offered tools.

    Raises:
      CallSyntaxError: It is anything else.
    """
    tool = next((tool for tool in tools if tool.name == text.partition("(")[0].strip()), None)
    unnamed = iter(tool.parameters if tool else ())
    while True:
        try:
            call = parse_call(text)
            break
        except CallSyntaxError as error:
            text = _mended(text, error, unnamed)
    if tool is None:
        return call
    declared = {parameter.name: parameter.schema for parameter in tool.parameters}
    return ToolCall(
        call.name, {k: _as_declared(v, declared.get(k, {})) for k, v in call.arguments.items()}
    )


def _mended(text: str, error: CallSyntaxError, unnamed: Any) -> str:
    """Return the text without the first thing that ``parse_call`` does not read."""
    before, after = text[: error.position], text[error.position :]
    if error.reason == "positional_argument":
        parameter: Parameter | None = next(unnamed, None)
        if parameter is not None:
            return f"{before}{parameter.name}={after}"
    found = _ARITHMETIC.match(after) if error.reason == "bad_number" else None
    if found is None:
        raise error
    left, right = int(found[1]), int(found[3])
    return f"{before}{left * right if found[2] == '*' else left / right}{after[found.end() :]}"


def _as_declared(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, float) and schema.get("type") == "integer" and value.is_integer():
        return int(value)
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [_as_declared(entry, schema["items"]) for entry in value]
    return value
