"""Reward of a predicted call against the gold call: findings, then a table of penalties."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.compare import declared_type, values_equal
from tl_jax.calls.parse import CallSyntaxError, parse_call
from tl_jax.calls.render import render_call
from tl_jax.rewards import reference, taxonomy
from tl_jax.rewards.free_text import same_free_text
from tl_jax.rewards.taxonomy import Finding

Tools = Sequence[ToolSpec] | Mapping[str, Collection[str]]
Call = str | ToolCall

MODES = ("strict", "reference")

PENALTIES: Mapping[str, float] = {
    taxonomy.FORMAT_ERROR: -2.0,
    taxonomy.TOOL_HALLUCINATION: -2.0,
    taxonomy.WRONG_TOOL: -1.5,
    taxonomy.PARAMETER_HALLUCINATION: -0.8,
    taxonomy.PARAMETER_REDUNDANCY: -0.5,
    taxonomy.PARAMETER_MISSING: -0.5,
    taxonomy.CONTENT_FILLING: -0.25,
}
"""Penalty of each category; a category counts once, and only parameter categories add up.

Source: TL-Training (arXiv 2412.15495), inverse reward matching.
"""
RIGHT = 1.0
"""Reward of a call without findings."""


@dataclasses.dataclass(frozen=True)
class Reward:
    """A reward and its explanation.

    Attributes:
      value: The reward; always a float.
      category: The worst category found, or ``taxonomy.ALL_RIGHT``.
      details: One ``"category: what"`` line per finding; empty if all is right.
    """

    value: float
    category: str
    details: tuple[str, ...] = ()


def score(
    prediction: Call,
    gold: Call,
    tools: Tools,
    *,
    mode: str = "strict",
    style: str = "python",
    given_tool: str | None = None,
    free_text_tools: Collection[str] = ("finish", "ask_to_user"),
    free_text_min_f1: float = 0.85,
) -> Reward:
    """Score ``prediction`` against ``gold``.

    Strict mode parses both sides fully (``calls.parse``), compares values by declared type
    (``calls.compare``) and accepts the texts of ``free_text_tools`` by token overlap
    (``free_text.same_free_text``). An optional argument that the gold call leaves out is no error
    if it equals the default in the tool's schema. A tool that was not offered can only be right if
    it is the gold tool. A gold text that is no call gives a format error, as in the published
    code. Reference mode reproduces the published reward, blind spots included (``reference``); it
    ignores the free-text settings.

    Args:
      prediction: Text the model wrote, or a call.
      gold: Text of the gold call, or the call.
      tools: The tools offered in the prompt, or a mapping from tool name to parameter names.
      mode: ``"strict"`` or ``"reference"``.
      style: Call style that texts are read in, one of ``calls.parse.STYLES``.
      given_tool: Name of the tool the prompt already ends with; the model then writes, and a gold
        text holds, only ``"(arguments)"``.
      free_text_tools: Tools whose string arguments are free text.
      free_text_min_f1: Least token F1 of equal free texts.

    Raises:
      ValueError: ``mode`` or ``style`` is unknown, or another style than Python's is asked for in
        reference mode or with ``given_tool``.
    """
    if style != "python" and (mode == "reference" or given_tool):
        raise ValueError(
            f"call style {style!r}: reference mode and a given tool are defined for Python calls "
            "only; take mode 'strict' and whole calls"
        )
    if mode == "strict":
        free = frozenset(free_text_tools)
        findings = _judge(prediction, gold, tools, style, given_tool, free, free_text_min_f1)
    elif mode == "reference":
        findings = reference.judge(
            _text(prediction), _text(gold), _parameter_names(tools), given_tool=given_tool
        )
    else:
        raise ValueError(f"unknown reward mode {mode!r}; known: {', '.join(MODES)}")
    return _reward(findings)


def _reward(findings: Sequence[Finding]) -> Reward:
    if not findings:
        return Reward(RIGHT, taxonomy.ALL_RIGHT)
    # Each category counts once; rounding makes -0.8 - 0.5 - 0.5 the literal -1.8.
    value = round(sum(PENALTIES[category] for category in {f.category for f in findings}), 6)
    return Reward(value, findings[0].category, tuple(f"{f.category}: {f.about}" for f in findings))


def _judge(
    prediction: Call,
    gold: Call,
    tools: Tools,
    style: str,
    given_tool: str | None,
    free_text_tools: frozenset[str],
    min_f1: float,
) -> list[Finding]:
    """Return the errors of a call, strictly; a tool error hides those of the parameters."""
    try:
        expected, _ = _read(gold, style, given_tool)
    except CallSyntaxError as error:
        return [Finding(taxonomy.FORMAT_ERROR, f"the gold text is no call, {error}")]
    try:
        called, continues = _read(prediction, style, given_tool)
    except CallSyntaxError as error:
        return [Finding(taxonomy.FORMAT_ERROR, f"{error.reason}, {error}")]
    if not continues:
        return [Finding(taxonomy.WRONG_TOOL, f"a full call where only arguments of {given_tool}")]
    tool = _find(tools, called.name)
    if called.name != expected.name:
        offered = tool is not None
        category = taxonomy.WRONG_TOOL if offered else taxonomy.TOOL_HALLUCINATION
        return [Finding(category, f"{called.name} instead of {expected.name}")]
    findings = _parameter_findings(called.arguments, expected.arguments, tool)
    if findings:
        return findings
    free = min_f1 if called.name in free_text_tools else None
    return _content_findings(called.arguments, expected.arguments, tool, free)


def _parameter_findings(
    called: Mapping[str, Any], expected: Mapping[str, Any], tool: ToolSpec | None
) -> list[Finding]:
    invented, redundant = [], []
    for name, value in called.items():
        if name in expected:
            continue
        parameter = tool.parameter(name) if tool is not None else None
        if parameter is None:
            invented.append(Finding(taxonomy.PARAMETER_HALLUCINATION, name))
        elif not _is_default(parameter, value):
            redundant.append(Finding(taxonomy.PARAMETER_REDUNDANCY, name))
    missing = [Finding(taxonomy.PARAMETER_MISSING, name) for name in expected if name not in called]
    return [*invented, *redundant, *missing]


def _content_findings(
    called: Mapping[str, Any],
    expected: Mapping[str, Any],
    tool: ToolSpec | None,
    free_text_min_f1: float | None,
) -> list[Finding]:
    findings = []
    for name, value in expected.items():
        if values_equal(called[name], value, declared_type(tool, name)):
            continue
        texts = isinstance(value, str) and isinstance(called[name], str)
        if texts and free_text_min_f1 is not None:
            if same_free_text(called[name], value, min_f1=free_text_min_f1):
                continue
        findings.append(Finding(taxonomy.CONTENT_FILLING, name))
    return findings


def _is_default(parameter: Parameter, value: Any) -> bool:
    schema = parameter.schema
    return (
        not parameter.required
        and "default" in schema
        and values_equal(value, schema["default"], schema)
    )


def _read(call: Call, style: str, given_tool: str | None) -> tuple[ToolCall, bool]:
    """Return the call, and whether it continues the given tool's name as it should."""
    if isinstance(call, ToolCall):
        return call, True
    if not given_tool:
        return parse_call(call, style), True
    arguments = call.lstrip()
    if arguments.startswith("("):
        return parse_call(given_tool.strip() + arguments), True
    return parse_call(call), False


def _find(tools: Tools, name: str) -> ToolSpec | None:
    if isinstance(tools, Mapping):
        if name not in tools:
            return None
        return ToolSpec(name, parameters=tuple(Parameter(key) for key in tools[name]))
    return next((tool for tool in tools if tool.name == name), None)


def _parameter_names(tools: Tools) -> Mapping[str, Collection[str]]:
    if isinstance(tools, Mapping):
        return tools
    return {tool.name: [p.name for p in tool.parameters] for tool in tools}


def _text(call: Call) -> str:
    return call if isinstance(call, str) else render_call(call)
