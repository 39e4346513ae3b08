"""The strict reading of one call against one gold call: what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.compare import declared_type, values_equal
from tl_jax.rewards import taxonomy
from tl_jax.rewards.free_text import FreeText
from tl_jax.rewards.taxonomy import Finding


def judge(
    called: ToolCall, expected: ToolCall, tool: ToolSpec | None, free_text: FreeText
) -> list[Finding]:
    """Return the errors of a call, the worst category first; a tool error hides all others.

    An optional argument that equals the default in the tool's schema is no error, whether only
    the call has it or only the gold call. A tool that was not offered can only be right if it is
    the gold tool.

    Args:
      called: The call to judge.
      expected: The gold call.
      tool: The offered tool with the name of ``called``, if there is one.
      free_text: Which strings are free text and how they are compared.
    """
    if called.name != expected.name:
        category = taxonomy.TOOL_HALLUCINATION if tool is None else taxonomy.WRONG_TOOL
        return [Finding(category, f"{called.name} instead of {expected.name}")]
    given, due = called.arguments, expected.arguments
    findings = [] if given.keys() == due.keys() else _parameter_findings(given, due, tool)
    for name, value in due.items():
        if name in given and not _same(given[name], value, name, called.name, tool, free_text):
            findings.append(Finding(taxonomy.CONTENT_FILLING, name))
    return findings


def _parameter_findings(
    given: Mapping[str, Any], due: Mapping[str, Any], tool: ToolSpec | None
) -> list[Finding]:
    invented, redundant, missing = [], [], []
    for name, value in given.items():
        if name in due:
            continue
        parameter = tool.parameter(name) if tool is not None else None
        if parameter is None:
            invented.append(Finding(taxonomy.PARAMETER_HALLUCINATION, name))
        elif not _is_default(parameter, value):
            redundant.append(Finding(taxonomy.PARAMETER_REDUNDANCY, name))
    for name, value in due.items():
        if name in given:
            continue
        parameter = tool.parameter(name) if tool is not None else None
        if parameter is None or not _is_default(parameter, value):
            missing.append(Finding(taxonomy.PARAMETER_MISSING, name))
    return [*invented, *redundant, *missing]


def _same(
    given: Any, due: Any, name: str, tool_name: str, tool: ToolSpec | None, free_text: FreeText
) -> bool:
    if given.__class__ is str and given == due:
        return True  # most arguments; saves looking the parameter up
    if values_equal(given, due, declared_type(tool, name)):
        return True
    texts = isinstance(given, str) and isinstance(due, str)
    return texts and free_text.covers(tool_name, name) and free_text.same(given, due)


def _is_default(parameter: Parameter, value: Any) -> bool:
    schema = parameter.schema
    return (
        not parameter.required
        and "default" in schema
        and values_equal(value, schema["default"], schema)
    )
