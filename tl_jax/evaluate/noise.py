"""Noise for the items of any suite: other names, descriptions, tools, results and failed tries.

The levels are RoTBench's (arXiv 2401.08326): ``slight`` misspells names, ``medium`` reverses them
or takes random letters, ``heavy`` swaps them or asks for one more parameter; each changes the names
of the tools of an item or of their parameters, by lot, and ``union`` both, each at a level by lot.
The right tools are always changed, and half of the others. The other kinds (``KINDS``) are those
that RobustBench-TC (arXiv 2605.11928) found to matter.

What is right does not change: a reply is judged by its suite on the item as it was, its calls under
the old names. So each kind works for every suite. All is drawn from seed, kind and item.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.trajectory import Message
from tl_jax.errors import ConfigError
from tl_jax.evaluate.noise_names import CHANGES
from tl_jax.evaluate.renaming import Renaming
from tl_jax.evaluate.suites.suite import Item, Read, Reader, Suite, Verdict, Writer

CLEAN = "clean"
LEVELS = ("slight", "medium", "heavy")
_FIXED = ("finish", "ask_to_user")
_DISTRACTORS = 5
_OTHER_TYPES = {"integer": "string", "number": "string", "boolean": "string", "string": "array"}
"""Type that drifted documentation gives, by the one that a tool takes."""
_FAILURES = {
    "timeout": "Error: the request timed out after 30 seconds. Please try again.",
    "rate_limit": "Error 429: too many requests. Please try again.",
    "server_error": "Error 503: the service is temporarily unavailable. Please try again.",
    "unauthorized": "Error 401: the access token has expired. It was renewed; please try again.",
    "forbidden": "Error 403: access was denied. The permission is granted now; please try again.",
    "broken_json": '{"status": "ok", "data": {"items": [',
}


@dataclasses.dataclass(frozen=True)
class Noisy:
    """An item under noise.

    Attributes:
      original: As it was.
      item: As it is asked.
      renaming: What the names of tools and parameters have become.
    """

    original: Item
    item: Item
    renaming: Renaming = Renaming()

    def writer(self, write: Writer) -> Writer:
        """Return what writes calls of the item as it was under the names of the item as asked."""
        return lambda calls: write(self.renaming.calls(calls))

    def suite(self, suite: Suite) -> Suite:
        """Return a suite that judges the item as asked by how it was."""
        if self.item is self.original:
            return suite

        def judge(item: Item, reply: str, read: Reader) -> Verdict:
            def undone(text: str) -> Read:
                found = read(text)
                calls = tuple(map(self.renaming.undone, found.calls))
                return dataclasses.replace(found, calls=calls)

            return suite.judge(self.original, reply, undone)

        def oracle(item: Item, write: Writer) -> str:
            return suite.oracle(self.original, self.writer(write))

        return dataclasses.replace(suite, judge=judge, oracle=oracle)


Draw = Callable[[Item, random.Random, Sequence[ToolSpec]], Noisy]


def make_noisy(items: Sequence[Item], noise: str, seed: int) -> list[Noisy]:
    """Return items under noise.

    Args:
      items: Those of a suite.
      noise: ``clean``, or a name of ``KINDS``.
      seed: Seed.

    Raises:
      ConfigError: There is no such noise, or the items are prepared prompts.
    """
    if noise == CLEAN:
        return [Noisy(item, item) for item in items]
    if noise not in KINDS:
        raise ConfigError(f"unknown noise {noise!r}; known: {', '.join((CLEAN, *KINDS))}")
    if any(item.ids for item in items):
        raise ConfigError(
            f"noise {noise!r} changes tools and dialogues, but these items are prompts of a "
            "prepared data set; give the trajectories themselves"
        )
    others = {tool.name: tool for item in items for tool in item.tools}
    found = []
    for item in items:
        lot = random.Random(f"{seed}\n{noise}\n{item.id}")
        found.append(KINDS[noise](item, lot, list(others.values())))
    return found


def _gold_calls(item: Item) -> list[ToolCall]:
    """Return the calls of the accepted answers, where the gold of an item has such."""
    if not isinstance(item.gold, tuple):
        return []
    answers = [answer for answer in item.gold if isinstance(answer, tuple)]
    return [call for answer in answers for call in answer if isinstance(call, ToolCall)]


def _changed(item: Item, lot: random.Random, fixed: Sequence[str] = ()) -> list[ToolSpec]:
    """Return the tools of the gold calls and half of the others; all if the gold is not known."""
    tools = [tool for tool in item.tools if tool.name not in fixed]
    right = {call.name for call in _gold_calls(item)} or {tool.name for tool in tools}
    others = [tool for tool in tools if tool.name not in right]
    drawn = {tool.name for tool in lot.sample(others, len(others) // 2)}
    return [tool for tool in tools if tool.name in right or tool.name in drawn]


def _renamed(item: Item, renaming: Renaming) -> Noisy:
    messages = tuple(
        dataclasses.replace(m, calls=renaming.calls(m.calls)) if m.calls else m
        for m in item.messages
    )
    gold = item.gold
    if _gold_calls(item):
        gold = tuple(renaming.calls(answer) for answer in gold)
    tools = tuple(map(renaming.tool, item.tools))
    return Noisy(
        item, dataclasses.replace(item, tools=tools, messages=messages, gold=gold), renaming
    )


def _tool_names(level: str) -> Draw:
    def draw(item: Item, lot: random.Random, others: Sequence[ToolSpec]) -> Noisy:
        return _renamed(item, Renaming(tools=_new_tool_names(item, lot, level)))

    return draw


def _new_tool_names(item: Item, lot: random.Random, level: str) -> dict[str, str]:
    names = [tool.name for tool in item.tools]
    changed = [tool.name for tool in _changed(item, lot)]
    if level == "heavy" and len(changed) < 2:
        changed = names  # to be swapped it takes two
    return CHANGES[level](changed, names, lot, 10)


def _parameter_names(level: str) -> Draw:
    def draw(item: Item, lot: random.Random, others: Sequence[ToolSpec]) -> Noisy:
        return _renamed(item, _new_parameters(item, lot, level))

    return draw


def _new_parameters(item: Item, lot: random.Random, level: str) -> Renaming:
    changed = _changed(item, lot, fixed=_FIXED)
    if level == "heavy" and lot.random() < 0.5:
        added = {}
        for tool in changed:
            names = [p.name for p in tool.parameters]
            word = CHANGES["medium"](["code"], names, lot, 5)["code"]
            added[tool.name] = (word, CHANGES["medium"](["value"], [], lot, 5)["value"])
        return Renaming(added=added)
    renamed = {}
    for tool in changed:
        names = [p.name for p in tool.parameters]
        # A gold call may have names that its tool does not declare.
        given = [key for c in _gold_calls(item) if c.name == tool.name for key in c.arguments]
        renamed[tool.name] = CHANGES[level](names, [*names, *given], lot, 5)
    return Renaming(parameters=renamed)


def _either(level: str) -> Draw:
    def draw(item: Item, lot: random.Random, others: Sequence[ToolSpec]) -> Noisy:
        kind = lot.choice((_tool_names, _parameter_names))
        return kind(level)(item, lot, others)

    return draw


def _union(item: Item, lot: random.Random, others: Sequence[ToolSpec]) -> Noisy:
    parameters = _new_parameters(item, lot, lot.choice(LEVELS))
    names = _new_tool_names(item, lot, lot.choice(LEVELS))
    return _renamed(item, dataclasses.replace(parameters, tools=names))


def _with_tools(change: Callable[[list[ToolSpec], random.Random], list[ToolSpec]]) -> Draw:
    def draw(item: Item, lot: random.Random, others: Sequence[ToolSpec]) -> Noisy:
        tools = tuple(change(list(item.tools), lot))
        return Noisy(item, dataclasses.replace(item, tools=tools))

    return draw


def _undescribed(tools: list[ToolSpec], lot: random.Random) -> list[ToolSpec]:
    return [
        dataclasses.replace(
            tool,
            description="",
            parameters=tuple(
                dataclasses.replace(p, description="", schema=_untold(p.schema))
                for p in tool.parameters
            ),
        )
        for tool in tools
    ]


def _untold(schema: Any) -> Any:
    """Return a schema without any description in it; a property may be called so."""
    if isinstance(schema, list):
        return [_untold(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: {name: _untold(part) for name, part in value.items()}
        if key == "properties" and isinstance(value, Mapping)
        else _untold(value)
        for key, value in schema.items()
        if key != "description" or isinstance(value, Mapping)
    }


def _misdescribed(tools: list[ToolSpec], lot: random.Random) -> list[ToolSpec]:
    texts = [tool.description for tool in tools]
    lot.shuffle(texts)
    return [
        dataclasses.replace(tool, description=text) for tool, text in zip(tools, texts, strict=True)
    ]


def _untyped(tools: list[ToolSpec], lot: random.Random) -> list[ToolSpec]:
    return [
        dataclasses.replace(
            tool,
            parameters=tuple(
                dataclasses.replace(p, type="any", schema={}) for p in tool.parameters
            ),
        )
        for tool in tools
    ]


def _reordered(tools: list[ToolSpec], lot: random.Random) -> list[ToolSpec]:
    lot.shuffle(tools)
    found = []
    for tool in tools:
        parameters = list(tool.parameters)
        lot.shuffle(parameters)
        found.append(dataclasses.replace(tool, parameters=tuple(parameters)))
    return found


def _distractors(item: Item, lot: random.Random, others: Sequence[ToolSpec]) -> Noisy:
    names = {tool.name for tool in item.tools}
    foreign = [tool for tool in others if tool.name not in names]
    tools = list(item.tools)
    for tool in lot.sample(foreign, min(_DISTRACTORS, len(foreign))):
        tools.insert(lot.randrange(len(tools) + 1), tool)
    return Noisy(item, dataclasses.replace(item, tools=tuple(tools)))


def _noisy_results(item: Item, lot: random.Random, others: Sequence[ToolSpec]) -> Noisy:
    def noisy(message: Message) -> Message:
        if message.role != "tool":
            return message
        more = json.dumps({"trace_id": f"{lot.getrandbits(64):016x}", "cache": "miss", "took": 12})
        return dataclasses.replace(message, content=f"{message.content}\n{more}")

    return Noisy(item, dataclasses.replace(item, messages=tuple(map(noisy, item.messages))))


def _failed_try(failure: str) -> Draw:
    """Return the item after the right calls were tried in vain: they are due again."""

    def draw(item: Item, lot: random.Random, others: Sequence[ToolSpec]) -> Noisy:
        calls = item.gold[0] if _gold_calls(item) else ()
        if not calls:
            return Noisy(item, item)
        tried = Message("assistant", "", tuple(calls))
        failed = [Message("tool", _FAILURES[failure], status="error") for _ in calls]
        messages = (*item.messages, tried, *failed)
        return Noisy(item, dataclasses.replace(item, messages=messages))

    return draw


def _drifted(item: Item, lot: random.Random, others: Sequence[ToolSpec]) -> Noisy:
    """Return the item after tools have changed and their documentation has not.

    Of each right tool one argument of the gold calls has another name in the documentation, or
    another type. The calls were tried as documented, and the error says what the tools take: that
    is right now.
    """
    calls = item.gold[0] if _gold_calls(item) else ()
    names: dict[str, dict[str, str]] = {}
    types: dict[str, dict[str, str]] = {}
    for tool in item.tools:
        given = {key for call in calls if call.name == tool.name for key in call.arguments}
        known = [p for p in tool.parameters if p.name in given]
        if not known:
            continue
        drifted = lot.choice(known)
        if drifted.type in _OTHER_TYPES and lot.random() < 0.5:
            types[tool.name] = {drifted.name: _OTHER_TYPES[drifted.type]}
            continue
        taken = [p.name for p in tool.parameters]
        names[tool.name] = CHANGES["slight"]([drifted.name], taken, lot, 10)
    if not any((*names.values(), *types.values())):
        return Noisy(item, item)
    documented = Renaming(parameters=names)
    tools = tuple(documented.tool(_retyped(t, types.get(t.name, {}))) for t in item.tools)
    tried = tuple(
        documented.call(ToolCall(c.name, _as_text(c.arguments, types.get(c.name, {}))))
        for c in calls
    )
    failed = [Message("tool", _told(c, names, types, item), status="error") for c in calls]
    messages = (*item.messages, Message("assistant", "", tried), *failed)
    return Noisy(item, dataclasses.replace(item, tools=tools, messages=messages))


def _retyped(tool: ToolSpec, types: Mapping[str, str]) -> ToolSpec:
    parameters = tuple(
        dataclasses.replace(p, type=types[p.name], schema={}) if p.name in types else p
        for p in tool.parameters
    )
    return dataclasses.replace(tool, parameters=parameters)


def _as_text(arguments: Mapping[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    return {
        key: json.dumps(value, ensure_ascii=False)
        if types.get(key) == "string" and not isinstance(value, str)
        else [value]
        if types.get(key) == "array"
        else value
        for key, value in arguments.items()
    }


def _told(
    call: ToolCall,
    names: Mapping[str, Mapping[str, str]],
    types: Mapping[str, Mapping[str, str]],
    item: Item,
) -> str:
    """Return the error of a call as documented."""
    kinds = {
        p.name: p.type for tool in item.tools if tool.name == call.name for p in tool.parameters
    }
    found = [
        f"unknown parameter '{new}', it is called '{old}'"
        for old, new in names.get(call.name, {}).items()
        if old in call.arguments
    ]
    found += [
        f"parameter '{name}' must be of type {kinds[name]}"
        for name in types.get(call.name, {})
        if name in call.arguments
    ]
    what = "; ".join(found)
    if not what:
        return "Error: not run, as another call of this turn failed."
    return f"Error: {what}. The interface has changed since it was documented."


KINDS: Mapping[str, Draw] = {
    **{level: _either(level) for level in LEVELS},
    "union": _union,
    **{f"{level}_tools": _tool_names(level) for level in LEVELS},
    **{f"{level}_parameters": _parameter_names(level) for level in LEVELS},
    "no_descriptions": _with_tools(_undescribed),
    "swapped_descriptions": _with_tools(_misdescribed),
    "no_types": _with_tools(_untyped),
    "reordered": _with_tools(_reordered),
    "distractors": _distractors,
    "noisy_results": _noisy_results,
    **{failure: _failed_try(failure) for failure in _FAILURES},
    "schema_drift": _drifted,
}
"""Kinds of noise by name. After a failed try (``timeout`` and so on) the same calls are right."""
