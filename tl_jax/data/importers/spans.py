"""Read the spans in which tracers record a request to a model: attributes with dotted names.

Three conventions: OpenTelemetry's (``gen_ai.input.messages``), OpenInference's
(``llm.input_messages.0.message.role``) and OpenLLMetry's (``gen_ai.prompt.0.role``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.openai_form import function
from tl_jax.data.importers.unread import read_whole, watched

_INPUTS = ("gen_ai.input.messages", "llm.input_messages", "gen_ai.prompt")
_OUTPUTS = ("gen_ai.output.messages", "llm.output_messages", "gen_ai.completion")
_TOOLS = ("gen_ai.tool.definitions", "llm.tools", "llm.request.functions")
_SYSTEM = ("gen_ai.system_instructions",)
_WRAPPERS = ("message", "message_content", "tool_call", "tool")
_NOTES = (
    "gen_ai.request.", "gen_ai.response.", "gen_ai.usage.", "gen_ai.operation.", "gen_ai.provider.",
    "gen_ai.agent.", "gen_ai.conversation.", "llm.token_count", "llm.model_name", "llm.provider",
    "llm.system", "llm.invocation_parameters", "llm.usage.", "llm.request.type", "llm.is_streaming",
    "openinference.span.kind", "session.id", "user.id", "server.", "traceloop.",
)  # fmt: skip
"""Beginnings of attributes that say how, when and by whom something was answered."""
_LONGEST = 10_000
"""More entries than a list of messages has."""


def span(row: Any) -> tuple[dict[str, Any], Any] | None:
    """Return the request and the reply that a span records, or None if it records none.

    Raises:
      RowError: An attribute that should be JSON and is none.
    """
    if isinstance(row, Mapping):
        row.get("attributes")
    attributes = _attributes(row)
    read_whole(attributes, [key for key in attributes.keys() if str(key).startswith(_NOTES)])  # noqa: SIM118
    found = [_attribute(attributes, names) for names in (_INPUTS, _OUTPUTS, _TOOLS, _SYSTEM)]
    messages, reply, tools, system = found
    if not isinstance(messages, list) or not isinstance(reply, list) or not reply:
        return None
    request: dict[str, Any] = {"messages": [_flat(message) for message in messages]}
    if isinstance(tools, list):
        request["tools"] = [_tool(tool) for tool in tools]
    if isinstance(system, list) and all(isinstance(part, Mapping) for part in system):
        texts = [str(part.get("content") or part.get("text") or "") for part in system]
        request["system"] = "\n".join(texts)
    return request, [_flat(message) for message in reply]


def is_span(row: Any) -> bool:
    """Whether a row is a span with messages in its attributes."""
    names = _attributes(row).keys()
    return any(name.startswith(_INPUTS) for name in names if isinstance(name, str))


def _attributes(row: Any) -> Mapping[str, Any]:
    """Return the attributes of a span by name: an object, or a list of keys and typed values."""
    if not isinstance(row, Mapping):
        return {}
    found = dict.get(row, "attributes", row) if isinstance(row, dict) else row
    if isinstance(found, list):
        pairs = [entry for entry in found if isinstance(entry, Mapping) and "key" in entry]
        return {str(entry["key"]): _typed(entry.get("value")) for entry in pairs}
    return found if isinstance(found, Mapping) else {}


def _typed(value: Any) -> Any:
    if isinstance(value, Mapping) and len(value) == 1:
        (kind,) = value.keys()
        if kind == "arrayValue" and isinstance(value[kind], Mapping):
            return [_typed(inner) for inner in value[kind].get("values") or ()]
        return value[kind]
    return value


def _attribute(attributes: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the first of some attributes that is there, whole or in dotted pieces."""
    for name in names:
        if name in attributes:
            value = attributes[name]
            return watched(load_json(value, name)) if isinstance(value, str) else value
        pieces = [key for key in attributes.keys() if str(key).startswith(f"{name}.")]  # noqa: SIM118
        if pieces:
            return _nested({key[len(name) + 1 :]: attributes[key] for key in pieces})
    return None


def _nested(pieces: Mapping[str, Any]) -> Any:
    """Return what pieces such as ``0.role`` make up: an object, or a list where all are numbers."""
    groups: dict[str, Any] = {}
    for path, value in pieces.items():
        head, _, rest = path.partition(".")
        if rest:
            groups.setdefault(head, {})[rest] = value
        else:
            groups[head] = value
    found = {
        head: _nested(inner) if any(p.startswith(f"{head}.") for p in pieces) else inner
        for head, inner in groups.items()
    }
    if found and all(head.isdecimal() and len(head) < len(str(_LONGEST)) for head in found):
        return [found[head] for head in sorted(found, key=int)]
    return found


def _flat(value: Any) -> Any:
    """Return a message without the objects that OpenInference has round what stands in lists."""
    if isinstance(value, list):
        return [_flat(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    keys = list(dict.keys(value))
    if len(keys) == 1 and keys[0] in _WRAPPERS and isinstance(value[keys[0]], dict):
        return _flat(value[keys[0]])
    if not any("." in key or key in ("tool_calls", "contents") for key in keys):
        return value
    found: dict[str, Any] = {}
    for key in keys:
        name = key.rpartition(".")[2] if key.startswith(("message.", "tool_call.")) else key
        found["content" if name == "contents" else name] = _flat(value[key])
    return found


def _tool(tool: Any) -> Any:
    tool = _flat(tool)
    if isinstance(tool, Mapping) and isinstance(schema := tool.get("json_schema"), str):
        return watched(load_json(schema, "a tool"))
    if isinstance(tool, Mapping) and "parameters" in tool and "type" not in tool:
        return function(tool.get("name"), tool.get("description"), tool.get("parameters"))
    return tool
