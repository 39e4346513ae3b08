"""ToolAlpaca, real and simulated APIs: the first step and the whole path, by TS, PI and CF.

An item is one step: its dialogue has the gold calls of the steps before it, whose results are not
in the files and are left out. ``ts``, ``pi`` and ``cf`` are those of the first steps, one for each
instruction, as in the paper's table; ``path/ts`` and so on are of instructions all of whose steps
are right; ``step/ts`` and so on of all steps. The paper does not say which of them it reports.

Golds that cannot be right as they stand are counted apart, in the group of their fault: ``gold is
no JSON``, ``gold names no tool``, ``gold has a placeholder`` (a value that only another call would
tell, which any value then fits). Of the first only the tool can be right; without the first two,
``sound/ts`` and so on are of the first steps that can be right on all levels.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.importers.opened import opened
from tl_jax.data.importers.toolalpaca import api_tools
from tl_jax.data.trajectory import Message
from tl_jax.errors import RowError
from tl_jax.evaluate.intervals import Share
from tl_jax.evaluate.scores import METRICS, Policy
from tl_jax.evaluate.suites.suite import (
    Item,
    Reader,
    Suite,
    Verdict,
    Writer,
    answers,
    judge_calls,
    write_answer,
)

NO_JSON, NO_TOOL, PLACEHOLDER = "gold is no JSON", "gold names no tool", "gold has a placeholder"
WILDCARD = "None"
"""A value of a gold call that any other fits, see ``scores.Policy``."""

_STEP = "step/"
_HOLE = re.compile(r'"?\$\{[^{}",]*\}?"?|"\{[^{}"]*\}"')
_ANY = json.dumps(WILDCARD)
_OPTIONAL = "[Optional]"


def read(path: str) -> Iterator[Item]:
    """Yield one item per step.

    Args:
      path: ``eval_real.json`` or ``eval_simulated.json``, a list of APIs; or one API a line. Plain
        or gzip.

    Raises:
      RowError: A row that is no API with instructions and gold answers; the message names it.
    """
    for number, api in enumerate(_rows(path)):
        place = f"{path}: API {number}, counted from 0"
        wanted = ("Name", "Instructions", "Golden_Answers", "Documentation", "Function_Projection")
        missing = [k for k in wanted if not isinstance(api, Mapping) or k not in api]
        if missing:
            raise RowError(
                f"{place}: no API of ToolAlpaca's evaluation, it has no {', '.join(missing)}; take"
                " eval_real.json or eval_simulated.json"
            )
        tools = api_tools(api, collections.Counter())
        for at, (asked, steps) in enumerate(
            zip(api["Instructions"], api["Golden_Answers"], strict=True)
        ):
            try:
                yield from _steps(f"{api['Name']}-{at:02d}", asked, steps, tools)
            except (KeyError, TypeError, AttributeError) as error:
                raise RowError(f"{place}: instruction {at} has no steps ({error!r})") from error


def _rows(path: str) -> Iterator[Any]:
    with opened(path, "rt", encoding="utf-8-sig") as stream:
        text = stream.read()
    try:
        if text.lstrip().startswith("["):
            yield from json.loads(text)
        else:
            yield from (json.loads(line) for line in text.split("\n") if line.strip())
    except (ValueError, RecursionError) as error:
        raise RowError(f"{path}: not JSON ({error})") from error


def _steps(
    name: str, asked: str, steps: Sequence[Mapping[str, str]], tools: tuple[ToolSpec, ...]
) -> Iterator[Item]:
    messages = [Message("user", asked)]
    for number, step in enumerate(steps):
        call, fault = _gold(step["Action"], step["Action_Input"], tools)
        tags = {"path": name, "step": str(number), **({"group": fault} if fault else {})}
        yield Item(f"{name}-{number}", tools, tuple(messages), answers(call), tags)
        messages.append(Message("assistant", "", (call,)))


def _gold(action: str, text: str, tools: Sequence[ToolSpec]) -> tuple[ToolCall, str]:
    """Return the gold call of a step, and what is wrong with it."""
    name = action.removeprefix(_OPTIONAL)
    filled = _HOLE.sub(_ANY, text).replace(f'{_ANY}"', _ANY)
    try:
        arguments, fault = json.loads(filled), PLACEHOLDER if filled != text else ""
    except ValueError:
        return ToolCall(name, {}), NO_JSON
    if not isinstance(arguments, dict):
        return ToolCall(name, {}), NO_JSON
    if all(tool.name != name for tool in tools):
        fault = NO_TOOL
    return ToolCall(name, {k: _opened(v) for k, v in arguments.items()}), fault


def _opened(value: Any) -> Any:
    """Return a wildcard for a list with one in it."""
    return WILDCARD if isinstance(value, list) and WILDCARD in value else value


def judge(item: Item, reply: str, read: Reader) -> Verdict:
    """Judge one step; of a gold that is no JSON only the tool can be right.

    Returns:
      ``step/ts`` and so on, of the first step of a path also ``ts`` and so on.
    """
    fault = item.tags.get("group", "")
    policy = Policy(free_text_tools=("getDetails",), none_is_wildcard=fault == PLACEHOLDER)
    found = judge_calls(item, reply, read, policy=policy, free_text_tools=policy.free_text_tools)
    known = ("ts",) if fault == NO_JSON else METRICS
    levels = {name: right and name in known for name, right in found.scores.items()}
    first = levels if item.tags["step"] == "0" else {}
    steps = {f"{_STEP}{name}": right for name, right in levels.items()}
    return dataclasses.replace(found, scores={**first, **steps})


def oracle(item: Item, write: Writer) -> str:
    """Return the gold call as a text."""
    return write_answer(item, write)


def summary(items: Sequence[Item], verdicts: Sequence[Verdict]) -> dict[str, Share | float]:
    """Return the shares of first steps, whole paths, all steps and sound first steps."""
    paths: dict[str, list[Verdict]] = {}
    pairs = list(zip(items, verdicts, strict=True))
    for item, verdict in pairs:
        paths.setdefault(item.tags["path"], []).append(verdict)
    first = [(item, verdict) for item, verdict in pairs if item.tags["step"] == "0"]
    sound = [(i, v) for i, v in first if i.tags.get("group") not in (NO_JSON, NO_TOOL)]
    found: dict[str, Share | float] = {}
    for metric in METRICS:
        found[metric] = _share(v.scores[metric] for _, v in first)
    for metric in METRICS:
        right = [all(v.scores[_STEP + metric] for v in path) for path in paths.values()]
        found[f"path/{metric}"] = _share(right)
    for metric in METRICS:
        found[_STEP + metric] = _share(v.scores[_STEP + metric] for _, v in pairs)
    for metric in METRICS:
        found[f"sound/{metric}"] = _share(v.scores[metric] for _, v in sound)
    for fault in (NO_JSON, NO_TOOL, PLACEHOLDER):
        group = [v.scores for i, v in pairs if i.tags.get("group") == fault]
        for metric in METRICS[:1] if fault == NO_JSON else METRICS:
            if group:
                found[f"{fault}/{metric}"] = _share(scores[_STEP + metric] for scores in group)
    return found


def _share(right: Any) -> Share:
    values = list(right)
    return Share(sum(values), len(values))


SUITES = (Suite("toolalpaca", read, judge, oracle, summary),)
