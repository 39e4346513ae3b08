"""RoTBench, first turn: items in canonical form, prompts, and the released evaluator's scoring."""

from __future__ import annotations

import codecs
import dataclasses
import functools
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.examples.build import Prompt
from tl_jax.data.importers.opened import opened
from tl_jax.data.importers.schemas import normalised_tool
from tl_jax.data.trajectory import Message
from tl_jax.errors import ConfigError, DataError, RowError
from tl_jax.evaluate.scores import MISS, Policy, TurnScore, score_call
from tl_jax.evaluate.suites.run_suite import Suite, prompt_of
from tl_jax.run.directory import Run

NOISES = ("clean", "slight", "medium", "heavy", "union")

_END_OF_QUERY = "Begin!"
_ACTION = "Action:"
_INPUT = "Action Input:"


@dataclasses.dataclass(frozen=True)
class Item:
    """One query with its accepted calls.

    Attributes:
      id: Unique over all noise levels, such as ``"rotbench-clean-007"``.
      tools: Offered tools in prompt order; the last two are ``ask_to_user`` and ``finish``, which
        may have been renamed by the noise.
      messages: The user's query.
      golds: The accepted calls.
      tags: ``noise`` and ``scenario``.
    """

    id: str
    tools: tuple[ToolSpec, ...]
    messages: tuple[Message, ...]
    golds: tuple[ToolCall, ...]
    tags: Mapping[str, str]


def read_items(path: str | os.PathLike[str], *, noise: str = "clean") -> list[Item]:
    """Read the items of one noise level from a first-turn file.

    Args:
      path: Either of two forms, plain or gzip. A ``.json`` file is one list as RoTBench releases
        it, each item ``{id, conversations, scenario}``: its noise is the name of the file, such as
        ``clean.json``, its index the position. Any other file is JSON lines, each item also with
        ``noise`` and ``index``. The system message of an item holds the tools, the last message
        the list of accepted answers.
      noise: One of ``NOISES``.

    Raises:
      RowError: A row that is no item, or an item that occurs again; the message names file and row.
      DataError: No items of this noise, or a ``.gz`` file that is damaged or cut off.
      ValueError: ``noise`` is unknown.
    """
    if noise not in NOISES:
        raise ValueError(f"unknown RoTBench noise {noise!r}; known: {', '.join(NOISES)}")
    items: dict[str, Item] = {}
    noises: Counter[str] = Counter()
    for place, row in _rows(str(path)):
        try:
            noises[row["noise"]] += 1
            item = _item(row) if row["noise"] == noise else None
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            raise RowError(
                f"{place}: no RoTBench item ({error!r}); expected noise, index, scenario and a"
                " conversation of system, user and assistant"
            ) from error
        if item is None:
            continue
        if item.id in items:
            raise RowError(
                f"{place}: noise {noise!r} has an item of index {row['index']} already; drop this"
                " one or give it another index"
            )
        items[item.id] = item
    if not items:
        found = ", ".join(f"{count} of {name!r}" for name, count in noises.items())
        raise DataError(
            f"{path}: no RoTBench items of noise {noise!r} (it holds {found or 'no items'}); take"
            f" {noise}.json from RoTBench's Data/First_Turn"
        )
    return list(items.values())


def rotbench_prompts(run: Run) -> list[Prompt]:
    """Return one prompt per clean item of ``config.evaluate.rotbench_path``.

    Raises:
      ConfigError: There is no such file, or it cannot be read.
    """
    path = run.config.evaluate.rotbench_path
    if not os.path.isfile(path):
        raise ConfigError(f"config.evaluate.rotbench_path: no file {path}")
    try:
        items = read_items(path, noise="clean")
    except (RowError, DataError) as error:
        raise ConfigError(f"config.evaluate.rotbench_path: {error}") from error
    return [prompt_of(run, item.id, item.tools, item.messages, item.golds) for item in items]


def score_item(
    prediction: ToolCall | None, item: Item | Prompt, *, count_empty_arguments: bool = True
) -> TurnScore:
    """Score a predicted call on ``item`` by RoTBench's rules.

    The literal name ``finish`` is accepted for the last tool; the last two tools need the right
    argument names only; a gold value ``"None"`` accepts any value.

    Args:
      prediction: The predicted call, or None.
      item: The item, or the prompt made of it.
      count_empty_arguments: False repeats a flaw of the released evaluator, for which a call
        without arguments is never right: the gold calls themselves then score 92.38 % on the
        clean set instead of 100 %.
    """
    return _score(prediction, item.golds, [t.name for t in item.tools], count_empty_arguments)


def score_react(prediction: str, golds: Sequence[str], tool_names: Sequence[str]) -> TurnScore:
    """Score ReAct text as the released evaluator does, its empty-argument flaw included.

    Args:
      prediction: Text with an ``Action:`` line and ``Action Input:`` JSON object after it.
      golds: The accepted answers, in the same form.
      tool_names: The offered tools in prompt order.

    Raises:
      ValueError: A gold text cannot be read.
    """
    expected = [_parse_react(gold) for gold in golds]
    if None in expected:
        raise ValueError(f"a gold answer is no ReAct call: {golds[expected.index(None)]!r}")
    calls = [call for call in expected if call is not None]
    return _score(_parse_react(prediction), calls, tool_names, False)


def _rows(path: str) -> Iterator[tuple[str, Any]]:
    """Yield every row with its place in the file, as messages name it."""
    stem, ending = os.path.splitext(os.path.basename(path).removesuffix(".gz"))
    with opened(path, "rb") as stream:
        if ending != ".json":
            for number, line in enumerate(stream, start=1):
                if line.removeprefix(codecs.BOM_UTF8).strip():
                    yield f"{path}:{number}", _parsed(path, number, line)
            return
        rows = _parsed(path, 1, stream.read())
    if not isinstance(rows, list):
        raise RowError(f"{path}: no list of items; a file of one item a line must end in .jsonl")
    for index, row in enumerate(rows):
        place = f"{path}: item {index}, counted from 0"
        if isinstance(row, dict):
            row = {"noise": stem, "index": index} | row
            if row["noise"] not in NOISES:
                names = ", ".join(f"{name}.json" for name in NOISES)
                raise RowError(
                    f"{place}: unknown noise {row['noise']!r}; items that do not say their noise"
                    f" have that of the file's name, so call it as RoTBench does: {names}"
                )
        yield place, row


def _parsed(path: str, first: int, raw: bytes) -> Any:
    """Return the JSON value of a file's text from its line ``first`` on."""
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = first + raw.count(b"\n", 0, error.start)
        raise RowError(
            f"{path}:{line}: not UTF-8 text ({error.reason}); save the file as UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        line = first + getattr(error, "lineno", 1) - 1
        raise RowError(
            f"{path}:{line}: not JSON ({getattr(error, 'msg', error)}); a .json file holds one"
            " list, a .jsonl file one item a line"
        ) from error


def _score(
    prediction: ToolCall | None,
    golds: Sequence[ToolCall],
    tool_names: Sequence[str],
    count_empty_arguments: bool,
) -> TurnScore:
    if prediction is None:
        return MISS
    policy = Policy(
        free_text_tools=tuple(tool_names[-2:]),
        count_empty_arguments=count_empty_arguments,
        none_is_wildcard=True,
    )
    readings = [prediction]
    if prediction.name == "finish":
        # Under noise the last tool has another name, and another tool may be called finish.
        readings.append(ToolCall(tool_names[-1], prediction.arguments))
    scores = [score_call(reading, golds, policy=policy) for reading in readings]
    return TurnScore(
        any(score.ts for score in scores),
        any(score.pi for score in scores),
        any(score.cf for score in scores),
    )


def _item(row: Mapping[str, Any]) -> Item:
    system, query, answer = (turn["value"] for turn in row["conversations"])
    golds = [_parse_react(text) for text in answer]
    if not golds or None in golds:
        raise RowError(f"an accepted answer is no ReAct call: {answer!r}")
    return Item(
        id=f"rotbench-{row['noise']}-{row['index']:03d}",
        tools=_tools(system),
        messages=(Message("user", query.strip().removesuffix(_END_OF_QUERY).rstrip()),),
        golds=tuple(call for call in golds if call is not None),
        tags={"noise": row["noise"], "scenario": row["scenario"]},
    )


def _tools(system: str) -> tuple[ToolSpec, ...]:
    """Return the tools of the JSON list that stands on its own line in the system text."""
    start = system.find("\n[{")
    if start < 0:
        raise RowError("the system message holds no JSON list of tools")
    functions, _ = json.JSONDecoder().raw_decode(system, start + 1)
    return tuple(normalised_tool(function, Counter(), keep_names=True) for function in functions)


def _parse_react(text: str) -> ToolCall | None:
    """Return the call of ReAct text, or None unless its input is a JSON object to the very end."""
    action = text.find(_ACTION)
    start = text.find(_INPUT, action)
    if action < 0 or start < 0:
        return None
    try:
        arguments = json.loads(text[start + len(_INPUT) :])
    except (ValueError, RecursionError):
        return None
    if not isinstance(arguments, dict):
        return None
    return ToolCall(text[action + len(_ACTION) : start].strip(), arguments)


SUITES = (
    Suite(
        name="rotbench/clean",
        prompts=rotbench_prompts,
        score=score_item,
        other_rules={
            "rotbench/clean (released rule)": functools.partial(
                score_item, count_empty_arguments=False
            )
        },
        setting="rotbench_path",
    ),
)
